//! No capability, and none to be gained: the bounding set, which limits what any program file could give, is emptied
//! before the change of user, the rest goes with it.

use std::io;

use nix::libc;

use super::check;

/// Above every capability the kernel knows; dropping one it does not know fails with `EINVAL`, which ends the row.
const MAX: libc::c_ulong = 63;
/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION: u32 = 0x2008_0522;

/// Empties the bounding and the ambient set. Comes before the change of user, which takes the right to do so.
pub fn take_bounds() {
    // SAFETY: plain system calls without pointers.
    unsafe {
        for capability in 0..=MAX {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                break;
            }
        }
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
            0,
            0,
            0,
        );
    }
}

/// Gives up those of this very moment: for a child whose user does not change, but whose user namespace gave it all.
pub fn take_all() -> io::Result<()> {
    // struct __user_cap_header_struct, and two of struct __user_cap_data_struct.
    let header = [VERSION, 0u32];
    let none = [0u32; 6];
    // SAFETY: both pointers are to memory of the size that version 3 of the interface reads.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) })?;
    Ok(())
}
