#ifndef FLOTILLA_SYSTEM_H
#define FLOTILLA_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

// Linux system calls behind one rule: a result below zero is -errno, and an interrupted call is repeated.
// Positions and counts are in bytes.

/// Opens a file for reading past the page cache (`O_DIRECT`); buffer, position and count must be multiples of 4096.
int flotilla_open_direct(const char *path);

/// Reserves blocks for a range without changing what it reads as; the file grows when the range ends beyond it.
int flotilla_allocate(int descriptor, int64_t position, int64_t count);

/// Reads into several buffers; the result is the number of bytes read, 0 at the end of the file.
int64_t flotilla_read_vector(int descriptor, const struct iovec *buffers, int count, int64_t position);

/// Writes several buffers; the result is the number of bytes written, which may be fewer than offered.
int64_t flotilla_write_vector(int descriptor, const struct iovec *buffers, int count, int64_t position);

/// Makes content and length durable (`fdatasync`). Repeated after an interruption only, never after an error.
int flotilla_sync_data(int descriptor);

/// Makes a file or directory durable with all that is known about it (`fsync`).
int flotilla_sync_all(int descriptor);

/// Starts writing dirty pages of a range and does not wait (`sync_file_range` with `SYNC_FILE_RANGE_WRITE`).
int flotilla_start_writeback(int descriptor, int64_t position, int64_t count);

/// Drops clean pages of a range from the page cache, so that the next read comes from the medium.
int flotilla_drop_cache(int descriptor, int64_t position, int64_t count);

/// Maps a range for reading, shared; nil and `*error` on failure. `position` is a multiple of the page size.
void *flotilla_map(int descriptor, int64_t position, size_t count, int *error);

/// Ends a mapping that `flotilla_map` made.
int flotilla_unmap(void *address, size_t count);

/// Reads the pages of a mapping into memory; reports `-EFAULT`, `-EHWPOISON` or `-EIO` where touching them would kill.
///
/// `address` is a multiple of the page size. Kernels before 5.14 do not know it: `-EINVAL`.
int flotilla_populate(void *address, size_t count);

/// Whether every page of a mapping is in memory: 1 or 0. `address` is a multiple of the page size.
int flotilla_is_resident(void *address, size_t count);

/// Tells the kernel how a mapping will be read: at random (true) or in order (false).
int flotilla_advise_random(void *address, size_t count, bool is_random);

/// Sends bytes of a file to a socket (`sendfile`); the result is the number of bytes sent.
int64_t flotilla_send_file(int socket, int file, int64_t position, size_t count);

/// Free (to an unprivileged process) and total bytes of the file system that holds a path.
int flotilla_space(const char *path, int64_t *free_count, int64_t *total_count);

/// Takes a lock on an open file that ends with the process; `-EWOULDBLOCK` when another holds it.
int flotilla_lock_file(int descriptor);

/// Raises the soft limit of open files to the hard one; the result is the limit that then holds.
int64_t flotilla_raise_descriptor_limit(void);

/// Keeps freed memory instead of returning it page by page (`M_MMAP_THRESHOLD`, `M_TRIM_THRESHOLD`); false if refused.
///
/// A receive buffer freed on the journal's thread would else be unmapped and faulted in again: measured at 20 to 29 %
/// of replication throughput.
bool flotilla_keep_freed_memory(int mmap_threshold, int trim_threshold);

/// Bytes of memory that lie in physical pages of this process now.
int64_t flotilla_resident_byte_count(void);

/// Names the calling thread, up to 15 characters.
int flotilla_name_thread(const char *name);

#ifdef __cplusplus
}
#endif

#endif
