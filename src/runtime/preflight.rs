//! What the machine must offer, checked before anything starts, so that a container that forbids
//! io_uring gets a sentence and not a panic.

use std::fmt;
use std::io;

/// glommio refuses to start an executor with less (soft `RLIMIT_MEMLOCK`).
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

/// What is missing.
#[derive(Debug)]
pub enum Refusal {
    /// `io_uring_setup` failed.
    IoUring(io::Error),
    /// `RLIMIT_MEMLOCK`, its hard limit, in bytes.
    Memlock(u64),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IoUring(e) => {
                writeln!(f, "this process cannot use io_uring: {e}")?;
                match e.raw_os_error() {
                    Some(libc::ENOSYS) => write!(
                        f,
                        "  why:  the kernel has no io_uring, or a seccomp profile hides it\n  \
                         see:  uname -r (5.13 or newer is needed); in a container: its seccomp profile\n  \
                         fix:  a newer kernel, or a seccomp profile that allows io_uring_setup, \
                         io_uring_enter and io_uring_register"
                    ),
                    Some(libc::EPERM | libc::EACCES) => write!(
                        f,
                        "  why:  io_uring is forbidden here by the kernel's setting or a seccomp profile\n  \
                         see:  sysctl kernel.io_uring_disabled (0 allows it); in a container: its \
                         seccomp profile\n  \
                         fix:  sysctl -w kernel.io_uring_disabled=0, or a seccomp profile that allows \
                         io_uring_setup, io_uring_enter and io_uring_register"
                    ),
                    Some(libc::ENOMEM) => write!(
                        f,
                        "  why:  not enough lockable memory for a ring\n  \
                         see:  ulimit -l\n  \
                         fix:  ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit"
                    ),
                    _ => write!(f, "  see:  dmesg, ulimit -l, sysctl kernel.io_uring_disabled"),
                }
            }
            Self::Memlock(hard) => write!(
                f,
                "the limit on locked memory is too small: {} KiB, {} KiB are needed\n  \
                 see:  ulimit -l, ulimit -H -l\n  \
                 fix:  ulimit -l 8192 before the start, LimitMEMLOCK=8M in the systemd unit, or \
                 --ulimit memlock=8388608 for a container",
                hard >> 10,
                MEMLOCK_BYTES_MIN >> 10
            ),
        }
    }
}

/// Raises the soft limits (locked memory, open files) to the hard ones and tries a ring.
///
/// # Errors
/// What is missing, with how to see it and how to fix it.
pub fn check() -> Result<(), Refusal> {
    let memlock = raise(libc::RLIMIT_MEMLOCK);
    raise(libc::RLIMIT_NOFILE);
    if memlock < MEMLOCK_BYTES_MIN {
        return Err(Refusal::Memlock(memlock));
    }
    try_ring().map_err(Refusal::IoUring)
}

/// Raises the soft limit to the hard one; the soft limit afterwards.
#[expect(unsafe_code, reason = "resource limits have no safe wrapper in our dependencies")]
fn raise(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, exclusive pointer during both calls, and the kernel only reads
    // or writes that one struct.
    unsafe {
        if libc::getrlimit(resource, &raw mut limit) != 0 {
            return u64::MAX;
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        if libc::setrlimit(resource, &raw const raised) == 0 {
            limit = raised;
        }
    }
    limit.rlim_cur
}

#[expect(unsafe_code, reason = "the question is whether this one system call is allowed")]
fn try_ring() -> io::Result<()> {
    // `struct io_uring_params` is 120 bytes and may be all zero: no flags, the default completion
    // queue.
    let mut params = [0u32; 30];
    // SAFETY: the kernel reads and writes at most 120 bytes at the pointer, which is the array's
    // size; the descriptor it returns is ours alone and closed at once.
    unsafe {
        let fd = libc::syscall(libc::SYS_io_uring_setup, 8, params.as_mut_ptr());
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::close(i32::try_from(fd).expect("descriptors are small"));
    }
    Ok(())
}
