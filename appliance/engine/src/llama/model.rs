//! A loaded model: weights mapped from the descriptor that was verified.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::IntoRawFd;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::thread::ThreadId;

use llama_cpp_sys_2 as sys;

use super::LlamaError;
use super::backend::{Backend, take_complaints};
use super::vocab::Vocab;

/// Longest metadata value read, bytes; the longest chat templates known are a tenth of this.
const MAX_METADATA: usize = 1024 * 1024;

/// A model in memory. Read-only after loading, so threads share it.
pub struct Model {
    model: NonNull<sys::llama_model>,
    /// The stream over the model's descriptor; closed after the model.
    file: NonNull<nix::libc::FILE>,
    /// The thread of its contexts and adapters.
    computing: OnceLock<ThreadId>,
}

// SAFETY: llama.cpp never changes a model after loading but for its list of adapters, which contexts and adapters alone
// look at, and those are on one thread; contexts hold all other state that changes.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// Loads the model from an open descriptor, which is mapped, never reopened.
    ///
    /// # Errors
    /// [`LlamaError::Unreadable`] when a part of the file cannot be read; [`LlamaError::Model`] with llama.cpp's own
    /// words when it is no model it can run.
    pub fn load(_backend: &Backend, file: File) -> Result<Self, LlamaError> {
        read_through(&file)?;
        let descriptor = file.into_raw_fd();
        // SAFETY: the descriptor is open and owned here; on success the stream owns it.
        let stream = unsafe { nix::libc::fdopen(descriptor, c"rb".as_ptr()) };
        let Some(stream) = NonNull::new(stream) else {
            let why = std::io::Error::last_os_error();
            // SAFETY: fdopen failed, so the descriptor is still owned here, and closed once.
            unsafe { nix::libc::close(descriptor) };
            return Err(LlamaError::Model(format!("no stream over its descriptor: {why}")));
        };
        take_complaints();
        // SAFETY: returns a plain struct by value.
        let mut params = unsafe { sys::llama_model_default_params() };
        params.n_gpu_layers = 0;
        params.load_mode = sys::LLAMA_LOAD_MODE_MMAP;
        // SAFETY: the stream is open and seekable or llama.cpp reports an error; it is not closed by the callee.
        // The descriptor may share its offset with whoever sent it, hence the rewind.
        let model = unsafe {
            nix::libc::rewind(stream.as_ptr());
            sys::llama_model_load_from_file_ptr(stream.as_ptr().cast(), params)
        };
        let Some(model) = NonNull::new(model) else {
            // SAFETY: nothing uses the stream any more, and it is closed once.
            unsafe { nix::libc::fclose(stream.as_ptr()) };
            let why = take_complaints();
            let why = why.trim_start_matches(": ");
            return Err(LlamaError::Model(if why.is_empty() {
                "llama.cpp gave no reason".into()
            } else {
                why.into()
            }));
        };
        let model = Self {
            model,
            file: stream,
            computing: OnceLock::new(),
        };
        // SAFETY: the model is valid.
        if unsafe { sys::llama_model_has_encoder(model.as_ptr()) } {
            return Err(LlamaError::Model(
                "it is an encoder model, which does not chat".into(),
            ));
        }
        if model.vocab().is_empty() {
            return Err(LlamaError::Model("it has no vocabulary".into()));
        }
        Ok(model)
    }

    /// Whether contexts may be made on this thread: the first one's thread is the only one.
    pub(super) fn computes_here(&self) -> bool {
        let here = std::thread::current().id();
        *self.computing.get_or_init(|| here) == here
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_model {
        self.model.as_ptr()
    }

    /// Its vocabulary.
    pub fn vocab(&self) -> Vocab<'_> {
        // SAFETY: the model is valid; the vocabulary lives in it.
        Vocab::new(unsafe { &*sys::llama_model_get_vocab(self.as_ptr()) })
    }

    /// Context it was trained for, tokens.
    pub fn trained_context(&self) -> u32 {
        // SAFETY: the model is valid.
        u32::try_from(unsafe { sys::llama_model_n_ctx_train(self.as_ptr()) }).unwrap_or(0)
    }

    /// A metadata value as text, or `None` when the key is not there or the value is longer than 1 MiB.
    pub fn metadata(&self, key: &str) -> Option<String> {
        let key = CString::new(key).ok()?;
        // SAFETY: a null buffer of size 0 makes the call report the length alone.
        let length =
            unsafe { sys::llama_model_meta_val_str(self.as_ptr(), key.as_ptr(), std::ptr::null_mut(), 0) };
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_METADATA)?;
        let mut bytes = vec![0_u8; length + 1];
        // SAFETY: the buffer holds the value and the closing zero that snprintf writes.
        unsafe {
            sys::llama_model_meta_val_str(
                self.as_ptr(),
                key.as_ptr(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
            )
        };
        Some(
            CStr::from_bytes_until_nul(&bytes)
                .ok()?
                .to_string_lossy()
                .into_owned(),
        )
    }

    /// The Jinja chat template of the file.
    pub fn chat_template(&self) -> Option<String> {
        // SAFETY: the model is valid; a null name asks for the default template.
        let text = unsafe { sys::llama_model_chat_template(self.as_ptr(), std::ptr::null()) };
        if text.is_null() {
            return None;
        }
        // SAFETY: a non-null answer is a C string inside the model.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        (text.len() <= MAX_METADATA).then_some(text)
    }
}

/// Reads the file once to its end. llama.cpp maps it with every page present, and a kernel that cannot read a page
/// (a bad sector, or content that fs-verity refuses) may then try for ever; here it is an error with a reason.
/// The pages are in the cache afterwards, where the mapping finds them.
///
/// # Errors
/// [`LlamaError::Unreadable`] where a page is damaged, [`LlamaError::Model`] when reading fails otherwise; both with
/// the kernel's reason.
pub(super) fn read_through(file: &File) -> Result<(), LlamaError> {
    use std::os::unix::fs::FileExt;
    let mut block = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        match file.read_at(&mut block, at) {
            Ok(0) => return Ok(()),
            Ok(read) => at += read as u64,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) if is_damage(&source) => return Err(LlamaError::Unreadable { at, source }),
            Err(e) => return Err(LlamaError::Model(format!("reading it failed at byte {at}: {e}"))),
        }
    }
}

/// Whether the error says something about what is on the disk: it, or the file system's own checksums and fs-verity,
/// cannot give the bytes that were written. Through a mapping each of them would be SIGBUS.
fn is_damage(error: &std::io::Error) -> bool {
    use nix::libc::{EBADMSG, EIO, EUCLEAN};
    matches!(error.raw_os_error(), Some(EIO | EBADMSG | EUCLEAN))
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: both are valid and freed once; contexts borrow the model, so none is left.
        unsafe {
            sys::llama_model_free(self.model.as_ptr());
            nix::libc::fclose(self.file.as_ptr());
        }
    }
}
