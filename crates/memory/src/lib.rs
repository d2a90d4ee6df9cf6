//! Gives memory that was freed back to the system.
//!
//! glibc keeps freed memory for the next allocation, and gives only the end of a heap back by itself.
//! After a storm of joins the server's snapshots are scattered over the heap, so that nearly all of it
//! stays resident although it is free. [`release`] asks for it.
//!
//! This crate must never hold anything else: it is the only one that may call what the compiler
//! cannot check, because no kept crate wraps `malloc_trim`.
//!
//! ```
//! bowline_memory::release();
//! ```

/// Gives free pages of all heaps back to the system. Does nothing where the allocator is not glibc's.
///
/// It walks the heaps, some milliseconds for 100 MiB, and threads that allocate meanwhile may wait for
/// it: call it from a thread on which nobody waits, and not often.
pub fn release() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "no kept crate wraps it")]
    // SAFETY: it takes no pointer, touches no memory that is in use, and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
