//! Lists to BPF, and BPF to the kernel.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::{Call, Program, Stage, common, lists};

/// Why the second list could not be put on. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The lists do not become a filter.
    #[error("compile the list of system calls: {0}")]
    Compile(#[from] seccompiler::BackendError),
    /// The kernel does not take the filter.
    #[error("give up system calls: {0}")]
    Install(#[from] seccompiler::Error),
}

/// Compiled filters of one stage.
#[derive(Debug, Clone)]
pub struct Filters(Vec<BpfProgram>);

impl Filters {
    /// What `program` may do at `stage`.
    ///
    /// # Errors
    /// When the lists cannot be compiled for this architecture.
    pub fn compile(program: Program, stage: Stage) -> Result<Self, SealError> {
        let allow = compile(
            &lists(program, stage),
            SeccompAction::KillProcess,
            SeccompAction::Allow,
        )?;
        let no_such_call = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        let unseen = compile(&[common::UNSEEN], SeccompAction::Allow, no_such_call)?;
        Ok(Self(vec![unseen, allow]))
    }

    /// Puts the filters on the calling thread, for good. Makes system calls and nothing else: may be called between
    /// `fork` and `exec`.
    ///
    /// # Errors
    /// When the kernel refuses, for example one without seccomp.
    pub fn install(&self) -> Result<(), SealError> {
        for program in &self.0 {
            seccompiler::apply_filter(program)?;
        }
        Ok(())
    }

    /// Puts the filters on every thread of this process, for good.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn install_on_all_threads(&self) -> Result<(), SealError> {
        for program in &self.0 {
            seccompiler::apply_filter_all_threads(program)?;
        }
        Ok(())
    }
}

/// Puts the second list of `program` on this process, for good.
///
/// # Errors
/// When the kernel refuses: the caller must not go on then.
pub fn seal(program: Program) -> Result<(), SealError> {
    Filters::compile(program, Stage::Serve)?.install_on_all_threads()
}

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

fn compile(
    lists: &[&[Call]],
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut always = Vec::new();
    for call in lists.iter().copied().flatten() {
        let entry = rules.entry(call.number).or_default();
        if call.tests.is_empty() {
            // Without a condition; no other entry of the same call may narrow that.
            always.push(call.number);
            continue;
        }
        let conditions: Result<Vec<_>, _> = call
            .tests
            .iter()
            .map(|test| {
                SeccompCondition::new(
                    test.argument,
                    SeccompCmpArgLen::Qword,
                    SeccompCmpOp::MaskedEq(test.mask),
                    test.value,
                )
            })
            .collect();
        entry.push(SeccompRule::new(conditions?)?);
    }
    for number in always {
        rules.insert(number, Vec::new());
    }
    SeccompFilter::new(rules, otherwise, listed, ARCH)?.try_into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::name;

    const ALL: [Program; 4] = [
        Program::Engine,
        Program::Gateway,
        Program::Trainer,
        Program::Announcer,
    ];
    #[cfg(target_arch = "x86_64")]
    const AUDIT_ARCH: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const AUDIT_ARCH: u32 = 0xc000_00b7;

    /// What the kernel would do: classic BPF over `struct seccomp_data`, as far as filters use it.
    fn run(program: &BpfProgram, arch: u32, number: i64, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(u32::try_from(number & 0xffff_ffff).unwrap().to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend(0u64.to_ne_bytes());
        data.extend(arguments.iter().flat_map(|a| a.to_ne_bytes()));
        let (mut at, mut a) = (0, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let mut jump = |taken: bool| at += usize::from(if taken { step.jt } else { step.jf });
            match step.code {
                0x20 => a = u32::from_ne_bytes(data[step.k as usize..][..4].try_into().unwrap()),
                0x54 => a &= step.k,
                0x05 => at += step.k as usize,
                0x15 => jump(a == step.k),
                0x25 => jump(a > step.k),
                0x35 => jump(a >= step.k),
                0x06 => return step.k,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    /// The verdict of both filters: the harsher one counts.
    fn verdict(program: Program, stage: Stage, number: i64, arguments: [u64; 6]) -> &'static str {
        let filters = Filters::compile(program, stage).unwrap();
        let all: Vec<u32> = filters
            .0
            .iter()
            .map(|f| run(f, AUDIT_ARCH, number, arguments))
            .collect();
        if all.contains(&0x8000_0000) {
            "killed"
        } else if all.iter().any(|v| v & 0xffff_0000 == 0x0005_0000) {
            "no such call"
        } else {
            assert!(all.iter().all(|v| *v == 0x7fff_0000), "{all:x?}");
            "allowed"
        }
    }

    fn serving(number: i64, arguments: [u64; 6]) -> &'static str {
        verdict(Program::Engine, Stage::Serve, number, arguments)
    }

    #[test]
    fn what_a_broken_engine_would_reach_for_ends_it() {
        for (program, stage) in [(Program::Engine, Stage::Serve), (Program::Trainer, Stage::Serve)] {
            for number in [
                libc::SYS_openat,
                libc::SYS_openat2,
                libc::SYS_socket,
                libc::SYS_socketpair,
                libc::SYS_connect,
                libc::SYS_bind,
                libc::SYS_listen,
                libc::SYS_execve,
                libc::SYS_execveat,
                libc::SYS_ptrace,
                libc::SYS_kill,
                libc::SYS_tkill,
                libc::SYS_mount,
                libc::SYS_unshare,
                libc::SYS_setns,
                libc::SYS_io_uring_setup,
                libc::SYS_bpf,
                libc::SYS_userfaultfd,
                libc::SYS_keyctl,
                libc::SYS_process_vm_readv,
                libc::SYS_process_vm_writev,
                libc::SYS_open_by_handle_at,
                libc::SYS_memfd_create,
                libc::SYS_pidfd_getfd,
                libc::SYS_prlimit64,
                libc::SYS_personality,
                libc::SYS_seccomp,
                libc::SYS_chroot,
                libc::SYS_pivot_root,
                libc::SYS_perf_event_open,
                libc::SYS_shmat,
                libc::SYS_pkey_mprotect,
                libc::SYS_remap_file_pages,
                libc::SYS_unlinkat,
                libc::SYS_timer_create,
                libc::SYS_rt_sigqueueinfo,
                libc::SYS_sched_setscheduler,
            ] {
                assert_eq!(
                    verdict(program, stage, number, [0; 6]),
                    "killed",
                    "{:?} {:?}",
                    program,
                    name(number)
                );
            }
        }
    }

    #[test]
    fn no_memory_is_executable_once_a_program_serves() {
        for program in ALL {
            for number in [libc::SYS_mmap, libc::SYS_mprotect] {
                for protection in 0..8u64 {
                    let wanted = if protection & 4 == 0 { "allowed" } else { "killed" };
                    let verdict = verdict(program, Stage::Serve, number, [0, 0, protection, 0, 0, 0]);
                    assert_eq!(verdict, wanted, "{program:?} {protection}");
                }
            }
        }
    }

    #[test]
    fn while_it_is_loaded_memory_is_writable_or_executable_and_never_both() {
        for number in [libc::SYS_mmap, libc::SYS_mprotect] {
            for protection in 0..8u64 {
                let wanted = if protection & 6 == 6 { "killed" } else { "allowed" };
                let verdict = verdict(Program::Engine, Stage::Start, number, [0, 0, protection, 0, 0, 0]);
                assert_eq!(verdict, wanted, "{protection}");
            }
        }
    }

    #[test]
    fn threads_are_made_and_neither_processes_nor_namespaces() {
        let thread = 0x003d_0f00; // what pthread_create asks for
        assert_eq!(serving(libc::SYS_clone, [thread, 0, 0, 0, 0, 0]), "allowed");
        assert_eq!(serving(libc::SYS_clone, [17, 0, 0, 0, 0, 0]), "killed"); // fork
        assert_eq!(serving(libc::SYS_clone, [0x4111, 0, 0, 0, 0, 0]), "killed"); // vfork
        let namespace: u64 = libc::CLONE_NEWUSER.unsigned_abs().into();
        assert_eq!(
            serving(libc::SYS_clone, [thread | namespace, 0, 0, 0, 0, 0]),
            "killed"
        );
        assert_eq!(serving(libc::SYS_clone3, [0; 6]), "no such call");
    }

    #[test]
    fn a_gateway_makes_sockets_of_the_machine_itself_alone() {
        let socket = |family: i32| {
            let family = u64::from(family.unsigned_abs());
            verdict(
                Program::Gateway,
                Stage::Serve,
                libc::SYS_socket,
                [family, 1, 0, 0, 0, 0],
            )
        };
        assert_eq!(socket(libc::AF_UNIX), "allowed");
        for family in [
            libc::AF_INET,
            libc::AF_INET6,
            libc::AF_NETLINK,
            libc::AF_PACKET,
            libc::AF_VSOCK,
        ] {
            assert_eq!(socket(family), "killed");
        }
        assert_eq!(
            verdict(Program::Gateway, Stage::Serve, libc::SYS_bind, [0; 6]),
            "killed"
        );
        assert_eq!(
            verdict(Program::Gateway, Stage::Serve, libc::SYS_execve, [0; 6]),
            "killed"
        );
    }

    #[test]
    fn a_call_of_another_interface_ends_it() {
        let filters = Filters::compile(Program::Engine, Stage::Serve).unwrap();
        // read() of 32-bit x86, and of x32.
        let killed = |arch, number| {
            filters
                .0
                .iter()
                .any(|f| run(f, arch, number, [0; 6]) == 0x8000_0000)
        };
        assert!(killed(0x4000_0003, 3));
        assert!(killed(AUDIT_ARCH, 0x4000_0000));
        assert!(!killed(AUDIT_ARCH, libc::SYS_read));
    }

    #[test]
    fn serving_allows_nothing_that_starting_does_not_and_every_call_has_its_reason() {
        for program in ALL {
            for call in lists(program, Stage::Start).into_iter().flatten() {
                assert!(call.why.len() > 3 && name(call.number).is_some());
            }
            for call in lists(program, Stage::Serve).into_iter().flatten() {
                let mut arguments = [0; 6];
                for test in call.tests {
                    arguments[usize::from(test.argument)] |= test.value;
                }
                let wanted = if call.number == libc::SYS_clone3 {
                    "no such call"
                } else {
                    "allowed"
                };
                for stage in [Stage::Start, Stage::Serve] {
                    assert_eq!(
                        verdict(program, stage, call.number, arguments),
                        wanted,
                        "{:?}",
                        name(call.number)
                    );
                }
            }
        }
    }

    proptest! {
        /// Whatever the number and the arguments: allowed is only what an entry of the lists allows.
        #[test]
        fn nothing_is_allowed_that_is_not_listed(number in 0i64..500, arguments in any::<[u64; 6]>(), serve in any::<bool>()) {
            let stage = if serve { Stage::Serve } else { Stage::Start };
            for program in ALL {
                let listed = lists(program, stage).into_iter().flatten().any(|call| {
                    call.number == number
                        && call.tests.iter().all(|t| arguments[usize::from(t.argument)] & t.mask == t.value)
                });
                let verdict = verdict(program, stage, number, arguments);
                prop_assert_eq!(verdict != "killed", listed, "{:?} {:?}", program, name(number));
            }
        }
    }
}
