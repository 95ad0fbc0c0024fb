//! A loaded LoRA adapter: low-rank matrices that a context adds to those of its model.
//!
//! llama.cpp checks names and shapes against the model. What it does not check, and would end the process for later, is
//! checked here first, with its own reader of the format: the kinds of values and of tensors.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::IntoRawFd;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;
use sarai_wire::adapter::MAX_ADAPTER;

use super::LlamaError;
use super::backend::take_complaints;
use super::context::Context;
use super::model::{Model, read_through};

/// Most tensors: two for each of the seven matrices of several hundred layers.
const MAX_TENSORS: i64 = 16_384;
/// What an adapter's tensors may be made of.
const TYPES: [sys::ggml_type; 3] = [sys::GGML_TYPE_F32, sys::GGML_TYPE_F16, sys::GGML_TYPE_BF16];
/// llama.cpp's own words begin with this.
const PREAMBLE: &str = "failed to apply lora adapter: ";

/// An adapter in memory, of one model. It stays on the thread of the model's contexts: llama.cpp enters it into a list
/// of the model that contexts read.
pub struct Adapter<'model> {
    adapter: NonNull<sys::llama_adapter_lora>,
    bytes: u64,
    /// It is freed before its model.
    model: &'model Model,
}

impl<'model> Adapter<'model> {
    /// Loads an adapter of the context's model from an open descriptor, which is read, never reopened, and closed.
    ///
    /// # Errors
    /// [`LlamaError::Adapter`] when it cannot be read, is none, or none for this model.
    pub fn load(context: &Context<'model>, file: File) -> Result<Self, LlamaError> {
        let size = file
            .metadata()
            .map_err(|e| wrong(format!("its size is unknown: {e}")))?
            .len();
        if size > MAX_ADAPTER {
            return Err(wrong(format!("its {size} bytes exceed {MAX_ADAPTER}")));
        }
        read_through(&file).map_err(|error| match error {
            LlamaError::Unreadable { at, source } => {
                wrong(format!("reading it failed at byte {at}: {source}"))
            }
            LlamaError::Model(why) => wrong(why),
            other => other,
        })?;
        let stream = Stream::over(file)?;
        let bytes = inspect(&stream, context.model())?;
        stream.rewind();
        take_complaints();
        // SAFETY: model and stream are valid, and the callee neither closes the stream nor keeps it. It changes the
        // model's list of adapters, which contexts and adapters alone look at; all of them are on this thread (see
        // `Context::new`), and a context is at hand.
        let adapter = unsafe {
            sys::llama_adapter_lora_init_from_file_ptr(context.model().as_ptr(), stream.0.as_ptr().cast())
        };
        let adapter = NonNull::new(adapter).ok_or_else(|| wrong(complaint()))?;
        Ok(Self {
            adapter,
            bytes,
            model: context.model(),
        })
    }

    /// Bytes of its matrices.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is of this model.
    pub(super) fn is_of(&self, model: &Model) -> bool {
        std::ptr::eq(self.model, model)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_adapter_lora {
        self.adapter.as_ptr()
    }
}

impl Drop for Adapter<'_> {
    fn drop(&mut self) {
        // SAFETY: valid and freed once, before the model. A context that applies it holds it, so none does any more.
        // The model's list of adapters is changed on the one thread that looks at it: an adapter never leaves it.
        unsafe { sys::llama_adapter_lora_free(self.adapter.as_ptr()) };
    }
}

fn wrong(why: impl Into<String>) -> LlamaError {
    LlamaError::Adapter(why.into())
}

/// What llama.cpp last complained about, in its own words.
fn complaint() -> String {
    let why = take_complaints();
    let why = why.rsplit_once(PREAMBLE).map_or(why.as_str(), |(_, why)| why);
    match why.trim_start_matches(": ") {
        "" => "llama.cpp gave no reason".into(),
        why => why.into(),
    }
}

/// A stream over a descriptor; closed with it.
struct Stream(NonNull<nix::libc::FILE>);

impl Stream {
    fn over(file: File) -> Result<Self, LlamaError> {
        let descriptor = file.into_raw_fd();
        // SAFETY: the descriptor is open and owned here; on success the stream owns it.
        let stream = unsafe { nix::libc::fdopen(descriptor, c"rb".as_ptr()) };
        NonNull::new(stream).map(Self).ok_or_else(|| {
            let why = std::io::Error::last_os_error();
            // SAFETY: fdopen failed, so the descriptor is still owned here, and closed once.
            unsafe { nix::libc::close(descriptor) };
            wrong(format!("no stream over its descriptor: {why}"))
        })
    }

    /// The descriptor may share its offset with whoever sent it.
    fn rewind(&self) {
        // SAFETY: the stream is open.
        unsafe { nix::libc::rewind(self.0.as_ptr()) };
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: open, and closed once.
        unsafe { nix::libc::fclose(self.0.as_ptr()) };
    }
}

/// A file's header as ggml reads it.
struct Header(NonNull<sys::gguf_context>);

impl Drop for Header {
    fn drop(&mut self) {
        // SAFETY: valid and freed once.
        unsafe { sys::gguf_free(self.0.as_ptr()) };
    }
}

impl Header {
    fn read(stream: &Stream) -> Result<Self, LlamaError> {
        stream.rewind();
        take_complaints();
        let params = sys::gguf_init_params {
            no_alloc: true,
            ctx: std::ptr::null_mut(),
        };
        // SAFETY: the stream is open and not kept; without a context to fill, tensors are described and not read.
        let header = unsafe { sys::gguf_init_from_file_ptr(stream.0.as_ptr().cast(), params) };
        let header = NonNull::new(header);
        header
            .map(Self)
            .ok_or_else(|| wrong(format!("it is no GGUF file: {}", complaint())))
    }

    fn key(&self, name: &CStr) -> Option<(i64, sys::gguf_type)> {
        // SAFETY: the header is valid, the name is a C string.
        let id = unsafe { sys::gguf_find_key(self.0.as_ptr(), name.as_ptr()) };
        // SAFETY: an id that was found is in range.
        (id >= 0).then(|| (id, unsafe { sys::gguf_get_kv_type(self.0.as_ptr(), id) }))
    }

    /// A text; `None` where the key is not there or holds something else.
    fn text(&self, name: &CStr) -> Option<String> {
        let (id, kind) = self.key(name)?;
        if kind != sys::GGUF_TYPE_STRING {
            return None;
        }
        // SAFETY: the id is in range and its value is a text, a C string inside the header.
        let text = unsafe { CStr::from_ptr(sys::gguf_get_val_str(self.0.as_ptr(), id)) };
        Some(text.to_string_lossy().chars().take(64).collect())
    }

    /// Whether the key holds a finite number, or is not there.
    fn is_finite_or_absent(&self, name: &CStr) -> bool {
        self.key(name).is_none_or(|(id, kind)| {
            // SAFETY: the id is in range, and read as what it is.
            kind == sys::GGUF_TYPE_FLOAT32
                && unsafe { sys::gguf_get_val_f32(self.0.as_ptr(), id) }.is_finite()
        })
    }

    fn tensors(&self) -> i64 {
        // SAFETY: the header is valid.
        unsafe { sys::gguf_get_n_tensors(self.0.as_ptr()) }
    }

    /// Name, sides, type and bytes of a tensor below [`Header::tensors`].
    fn tensor(&self, id: i64) -> (String, [i64; 4], sys::ggml_type, u64) {
        // SAFETY: the id is in range; the name is a C string inside the header, the sides are four numbers in it.
        unsafe {
            let header = self.0.as_ptr();
            let name = CStr::from_ptr(sys::gguf_get_tensor_name(header, id));
            (
                name.to_string_lossy().into_owned(),
                sys::gguf_get_tensor_ne(header, id).cast::<[i64; 4]>().read(),
                sys::gguf_get_tensor_type(header, id),
                sys::gguf_get_tensor_size(header, id) as u64,
            )
        }
    }
}

/// Checks what llama.cpp takes for granted; returns the bytes of the matrices.
fn inspect(stream: &Stream, model: &Model) -> Result<u64, LlamaError> {
    let header = Header::read(stream)?;
    let stated = |name: &CStr| {
        let found = header.text(name);
        found.ok_or_else(|| wrong(format!("it does not state {}", name.to_string_lossy())))
    };
    for (name, wanted) in [(c"general.type", "adapter"), (c"adapter.type", "lora")] {
        let found = stated(name)?;
        if found != wanted {
            let name = name.to_string_lossy();
            return Err(wrong(format!("its {name} is {found:?}, not {wanted:?}")));
        }
    }
    let (arch, own) = (
        stated(c"general.architecture")?,
        model.metadata("general.architecture").unwrap_or_default(),
    );
    if arch != own {
        return Err(wrong(format!(
            "it is for the architecture {arch:?}, and the model's is {own:?}"
        )));
    }
    if !header.is_finite_or_absent(c"adapter.lora.alpha") {
        return Err(wrong("its adapter.lora.alpha is no finite number"));
    }
    if header.key(c"adapter.alora.invocation_tokens").is_some() {
        return Err(wrong(
            "it is to be applied behind certain tokens alone, which is not done here",
        ));
    }
    let count = header.tensors();
    if !(1..=MAX_TENSORS).contains(&count) {
        return Err(wrong(format!(
            "it has {count} tensors, which are not 1 to {MAX_TENSORS}"
        )));
    }
    let mut bytes = 0;
    for id in 0..count {
        let (name, sides, kind, size) = header.tensor(id);
        if !(name.ends_with(".lora_a") || name.ends_with(".lora_b")) {
            return Err(wrong(format!("its tensor {name:?} is no matrix of a LoRA")));
        }
        if !TYPES.contains(&kind) || sides[2] != 1 || sides[3] != 1 {
            return Err(wrong(format!("its tensor {name:?} is no matrix of floats")));
        }
        bytes += size;
    }
    Ok(bytes)
}
