//! Before `main`: a kernel that starts PID 1 from an initramfs may leave `/dev` empty, and the standard library
//! aborts when it finds descriptors 0 to 2 closed and no `/dev/null` to put in their place. This runs from the
//! program's initialiser list, earlier than that.

use nix::libc;

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = mount_dev;

/// As PID 1, mounts `/dev` unless it is there. Errors are left to the ordinary boot step, which can report them.
extern "C" fn mount_dev() {
    // SAFETY: plain system calls on literals; nothing of the standard library is used.
    unsafe {
        if libc::getpid() != 1 || libc::access(c"/dev/null".as_ptr(), libc::F_OK) == 0 {
            return;
        }
        libc::mkdir(c"/dev".as_ptr(), 0o755);
        libc::mount(
            c"devtmpfs".as_ptr(),
            c"/dev".as_ptr(),
            c"devtmpfs".as_ptr(),
            libc::MS_NOSUID,
            std::ptr::null(),
        );
    }
}

/// Keeps the linker from dropping this object file, and with it the initialiser.
pub fn linked() -> bool {
    BEFORE_MAIN as usize != 0
}
