//! The edge to the operating system: reads into memory that holds nothing yet, and errno to kind.
//!
//! The one module of the workspace that may say `unsafe`. It does so for one purpose: a read goes
//! straight into the spare capacity of the caller's buffer, without zeroing it first and without a
//! second copy. Everything else about the disk is rustix's safe interface.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;

use bytes::BytesMut;
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

use crate::error::{Error, ErrorKind};

impl From<Errno> for Error {
    /// The kind of an errno; what has no better word goes through `std::io::Error`.
    fn from(errno: Errno) -> Self {
        let io = std::io::Error::from(errno);
        let kind = match errno {
            // A writer would change a program that runs.
            Errno::TXTBSY => ErrorKind::Locked,
            // A device, or a pipe without a reader.
            Errno::NXIO | Errno::NODEV => ErrorKind::PermissionDenied,
            Errno::TOOBIG => ErrorKind::TooLarge,
            Errno::MLINK => ErrorKind::NoSpace,
            Errno::OVERFLOW => ErrorKind::OutOfRange,
            _ => return Error::from(io),
        };
        Error::new(kind).with_source(io)
    }
}

/// What `struct iovec` looks like; `IoSliceMut` is promised to have its layout on Unix.
#[repr(C)]
struct IoVec {
    base: *mut c_void,
    len: usize,
}

/// Appends at most `len` bytes from `offset` of `fd` to `buf`, waiting for the disk where needed.
/// Gives the number of bytes.
pub(super) fn read(fd: BorrowedFd<'_>, offset: u64, len: usize, buf: &mut BytesMut) -> Result<usize, Errno> {
    buf.reserve(len);
    let n = {
        let spare = buf.spare_capacity_mut();
        let room = spare.len().min(len);
        let Some(spare) = spare.get_mut(..room) else { return Ok(0) };
        retry_on_intr(|| rustix::io::pread(fd, &mut *spare, offset).map(|(filled, _)| filled.len()))?
    };
    let end = buf.len() + n;
    // SAFETY: `pread` says that it filled the first `n` bytes of the spare capacity, so the bytes up to
    // `end` hold values and `end` is within the capacity.
    unsafe { buf.set_len(end) };
    Ok(n)
}

/// As [`read`], but only what the page cache holds: `AGAIN` where the disk would have to be waited for,
/// `OPNOTSUPP` where the filesystem cannot tell. Zero does not prove the end of the file.
pub(super) fn read_cached(
    fd: BorrowedFd<'_>,
    offset: u64,
    len: usize,
    buf: &mut BytesMut,
) -> Result<usize, Errno> {
    buf.reserve(len);
    let n = {
        let spare = buf.spare_capacity_mut();
        let room = spare.len().min(len);
        let raw = IoVec { base: spare.as_mut_ptr().cast(), len: room };
        // SAFETY: the standard library promises that `IoSliceMut` has the layout of `iovec`, which
        // `IoVec` repeats. The memory is ours for as long as `spare` is borrowed, it is at least `room`
        // bytes long, and nobody reads it through the slice: the kernel only writes to it.
        let slice = unsafe { std::mem::transmute::<IoVec, IoSliceMut<'_>>(raw) };
        rustix::io::preadv2(fd, &mut [slice], offset, ReadWriteFlags::NOWAIT)?.min(room)
    };
    let end = buf.len() + n;
    // SAFETY: `preadv2` says that it filled the first `n` bytes of the spare capacity, so the bytes up to
    // `end` hold values and `end` is within the capacity.
    unsafe { buf.set_len(end) };
    Ok(n)
}
