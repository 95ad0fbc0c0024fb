//! Start of llama.cpp in this process: logs, abort handling, and the one CPU module that suits the machine.

use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_sys_2 as sys;

use super::{LlamaError, cpu};

/// Longest trail of llama.cpp errors kept for a reason, bytes.
const MAX_TRAIL: usize = 2048;

/// The lowest level that is written; set once at start.
static LEVEL: AtomicI32 = AtomicI32::new(3);
/// Level of the line that a continuation belongs to.
static LAST_LEVEL: AtomicU32 = AtomicU32::new(0);
/// What llama.cpp complained about since [`take_complaints`].
static COMPLAINTS: Mutex<String> = Mutex::new(String::new());

/// Proof that llama.cpp is started and a CPU module is loaded.
#[derive(Debug)]
pub struct Backend {
    _started: LlamaBackend,
    registry: sys::ggml_backend_reg_t,
    variant: String,
}

// SAFETY: the registry is a static of the loaded module that is never unloaded or changed afterwards.
unsafe impl Send for Backend {}
// SAFETY: as above; it is only ever read.
unsafe impl Sync for Backend {}

impl Backend {
    /// Starts llama.cpp and loads the best CPU module of `backends/` beside the folder of its libraries.
    ///
    /// # Errors
    /// [`LlamaError::BelowFloor`] on a machine without AVX2, FMA, F16C or BMI2, before any module is touched;
    /// [`LlamaError::Backend`] when no module fits or llama.cpp was started before.
    pub fn start() -> Result<Self, LlamaError> {
        install_logs();
        let missing = cpu::missing_from_floor();
        if !missing.is_empty() {
            return Err(LlamaError::BelowFloor(missing));
        }
        let folder = folder()?;
        let mut tried = Vec::new();
        for variant in cpu::usable(cpu::Features::detect()) {
            let path = folder.join(format!("libggml-cpu-{variant}.so"));
            if !path.exists() {
                continue;
            }
            let name = CString::new(path.as_os_str().as_bytes())
                .map_err(|_| LlamaError::Backend("the folder's name holds a zero byte".into()))?;
            // SAFETY: `name` is a valid C string for the whole call; the function checks the module's score
            // against CPUID again before it registers it, and returns null when it cannot be loaded.
            let registry = unsafe { sys::ggml_backend_load(name.as_ptr()) };
            if registry.is_null() {
                tried.push(variant);
                continue;
            }
            return Self::finish(registry);
        }
        Err(LlamaError::Backend(format!(
            "no usable module in {} (tried {}){}",
            folder.display(),
            tried.join(", "),
            take_complaints()
        )))
    }

    /// Starts llama.cpp on a loaded module. In this order: started without any module, llama.cpp searches its
    /// build folder, the program's folder and the current one for modules, and loads the best it finds. Two
    /// modules in one process mix their threads and buffers, and the logits become nonsense.
    fn finish(registry: sys::ggml_backend_reg_t) -> Result<Self, LlamaError> {
        let started = LlamaBackend::init().map_err(|e| LlamaError::Backend(e.to_string()))?;
        // SAFETY: reads a counter.
        let modules = unsafe { sys::ggml_backend_reg_count() };
        if modules != 1 {
            return Err(LlamaError::Backend(format!(
                "{modules} modules are loaded, one was expected"
            )));
        }
        let mut backend = Self {
            _started: started,
            registry,
            variant: String::new(),
        };
        backend.variant = backend.loaded_variant()?;
        Ok(backend)
    }

    /// Name of the loaded variant, for example `zen4`: read from the file that the loader mapped.
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// Address of a function of the CPU module, or null.
    pub(super) fn function(&self, name: &CStr) -> *mut c_void {
        // SAFETY: the registry lives as long as the process and `name` is a C string.
        unsafe { sys::ggml_backend_reg_get_proc_address(self.registry, name.as_ptr()) }
    }

    fn loaded_variant(&self) -> Result<String, LlamaError> {
        let path = module_of(self.function(c"ggml_threadpool_new"))
            .ok_or_else(|| LlamaError::Backend("the module does not say where it was loaded from".into()))?;
        path.file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix("libggml-cpu-")?.strip_suffix(".so"))
            .map(str::to_owned)
            .ok_or_else(|| LlamaError::Backend(format!("{} is not a CPU module", path.display())))
    }
}

/// The `backends` folder: beside the `lib` folder that libllama itself was loaded from.
fn folder() -> Result<PathBuf, LlamaError> {
    let address = sys::llama_backend_init as unsafe extern "C" fn() as *const c_void;
    let library = module_of(address)
        .ok_or_else(|| LlamaError::Backend("libllama does not say where it was loaded from".into()))?;
    let library = library.canonicalize().unwrap_or(library);
    library
        .parent()
        .and_then(Path::parent)
        .map(|folder| folder.join("backends"))
        .ok_or_else(|| LlamaError::Backend(format!("{} has no folder above it", library.display())))
}

/// File of the shared object that holds `address`.
fn module_of(address: *const c_void) -> Option<PathBuf> {
    if address.is_null() {
        return None;
    }
    let mut info = std::mem::MaybeUninit::<nix::libc::Dl_info>::zeroed();
    // SAFETY: `info` is valid for writing, and dladdr accepts any address.
    let found = unsafe { nix::libc::dladdr(address, info.as_mut_ptr()) };
    if found == 0 {
        return None;
    }
    // SAFETY: zeroed is a valid Dl_info, and dladdr filled it in.
    let info = unsafe { info.assume_init() };
    if info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: a non-null dli_fname is a C string that lives as long as the object is loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(std::ffi::OsString::from_vec(
        name.to_bytes().to_vec(),
    )))
}

fn install_logs() {
    let level = match std::env::var("SARAI_ENGINE_LOG").as_deref() {
        Ok("error") => 4,
        Ok("info") => 2,
        Ok("debug") => 1,
        _ => 3,
    };
    LEVEL.store(level, Ordering::Relaxed);
    // SAFETY: the callbacks are plain functions without state that live as long as the process.
    unsafe {
        sys::llama_log_set(Some(on_log), std::ptr::null_mut());
        sys::ggml_log_set(Some(on_log), std::ptr::null_mut());
        // With a callback of its own ggml does not fork a debugger to print a backtrace.
        sys::ggml_set_abort_callback(Some(on_abort));
    }
}

unsafe extern "C" fn on_abort(message: *const c_char) {
    if !message.is_null() {
        // SAFETY: ggml hands over a C string that lives during the call.
        let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
        crate::log::line("ERROR", &format!("ggml aborts: {text}"));
    }
}

unsafe extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _data: *mut c_void) {
    if text.is_null() {
        return;
    }
    let level = if level == sys::GGML_LOG_LEVEL_CONT {
        LAST_LEVEL.load(Ordering::Relaxed)
    } else {
        LAST_LEVEL.store(level, Ordering::Relaxed);
        level
    };
    // SAFETY: llama.cpp hands over a C string that lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let text = text.trim_end();
    if text.is_empty() {
        return;
    }
    let name = match level {
        sys::GGML_LOG_LEVEL_ERROR => "ERROR",
        sys::GGML_LOG_LEVEL_WARN => "WARN",
        sys::GGML_LOG_LEVEL_INFO => "INFO",
        _ => "DEBUG",
    };
    if level == sys::GGML_LOG_LEVEL_ERROR
        && let Ok(mut trail) = COMPLAINTS.lock()
        && trail.len() + text.len() < MAX_TRAIL
    {
        trail.push_str(": ");
        trail.push_str(text);
    }
    if i64::from(level) >= i64::from(LEVEL.load(Ordering::Relaxed)) {
        crate::log::line(name, text);
    }
}

/// What llama.cpp logged as errors since the last call, each after ": "; for the reason of a failure.
pub fn take_complaints() -> String {
    COMPLAINTS
        .lock()
        .map(|mut trail| std::mem::take(&mut *trail))
        .unwrap_or_default()
}
