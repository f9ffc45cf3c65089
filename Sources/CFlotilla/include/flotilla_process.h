#ifndef FLOTILLA_PROCESS_H
#define FLOTILLA_PROCESS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Processes of our own and the way to talk to them, for `flotilla dev`. The rule of flotilla_system.h holds: a result
// below zero is -errno, and an interrupted call is repeated. Every descriptor made here is closed in what is started.

/// Starts a program; the result is its process id.
///
/// Both of its outputs go to `output`, its input is empty, and its process group is its own, so that Ctrl-C reaches only
/// the one who started it. It gets SIGKILL when the calling *thread* ends, however that comes about: start programs on a
/// thread that stays. A program that cannot be run ends with 126.
int flotilla_spawn(const char *path, char *const arguments[], int output);

/// How a started program ended: its exit code, or 128 and the signal; -EAGAIN while it runs.
int flotilla_reap(int process);

/// Sends a signal to a process.
int flotilla_signal(int process, int signal);

/// A pipe; reading it does not block, writing it does.
int flotilla_pipe(int ends[2]);

/// From now on SIGINT, SIGTERM and SIGHUP are counted instead of ending the process.
int flotilla_count_stop_signals(void);

/// How many of them came.
int flotilla_stop_signal_count(void);

/// Listens on a local socket in a directory, for this user only; a file that lies in its place is removed.
///
/// The directory's path may be longer than a socket's address: the address goes by way of /proc/self/fd.
int flotilla_local_listen(const char *directory, const char *name);

/// Connects to such a socket.
int flotilla_local_connect(const char *directory, const char *name);

/// The next connection; reading it does not block. -EAGAIN without one.
int flotilla_accept(int listener);

/// Begins to connect to a port of 127.0.0.1; reading and writing do not block.
int flotilla_loopback_connect(uint16_t port);

/// A port of 127.0.0.1 that nobody listens on now.
int flotilla_free_port(void);

#ifdef __cplusplus
}
#endif

#endif
