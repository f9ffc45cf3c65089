#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "flotilla_process.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PENDING_CONNECTIONS 16

static atomic_int stop_signal_count;

// Closes without losing the error of the call before.
static int fail_closing(int descriptor) {
    int error = errno;
    close(descriptor);
    return -error;
}

// What happens between fork and exec; only calls that are safe while other threads hold locks.
static void become(const char *path, char *const arguments[], int output, pid_t parent) {
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // The parent may have ended before the line above.
    if (getppid() != parent) {
        _exit(126);
    }
    int empty = open("/dev/null", O_RDONLY);
    if (empty < 0 || dup2(empty, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0) {
        _exit(126);
    }
    // What was ignored stays ignored through exec, and the mask stays too.
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(path, arguments);
    _exit(126);
}

int flotilla_spawn(const char *path, char *const arguments[], int output) {
    pid_t parent = getpid();
    pid_t process = fork();
    if (process < 0) {
        return -errno;
    }
    if (process == 0) {
        become(path, arguments, output, parent);
    }
    return process;
}

int flotilla_reap(int process) {
    int status = 0;
    pid_t found;
    do {
        found = waitpid(process, &status, WNOHANG);
    } while (found < 0 && errno == EINTR);
    if (found < 0) {
        return -errno;
    }
    if (found == 0) {
        return -EAGAIN;
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int flotilla_signal(int process, int signal) {
    return kill(process, signal) < 0 ? -errno : 0;
}

int flotilla_pipe(int ends[2]) {
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0) {
        close(ends[1]);
        return fail_closing(ends[0]);
    }
    return 0;
}

static void count_stop_signal(int signal) {
    (void)signal;
    atomic_fetch_add(&stop_signal_count, 1);
}

int flotilla_count_stop_signals(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = count_stop_signal;
    action.sa_flags = SA_RESTART;
    for (size_t index = 0; index < sizeof signals / sizeof signals[0]; index++) {
        if (sigaction(signals[index], &action, NULL) < 0) {
            return -errno;
        }
    }
    // A reader of our output that is gone is an error of the write, not our end.
    return signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -errno : 0;
}

int flotilla_stop_signal_count(void) {
    return atomic_load(&stop_signal_count);
}

// Fills in the address of a socket in a directory; the result is a descriptor of the directory, to be closed after use.
static int local_address(const char *directory, const char *name, struct sockaddr_un *address) {
    int folder = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        return -errno;
    }
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int count = snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", folder, name);
    if (count < 0 || (size_t)count >= sizeof address->sun_path) {
        close(folder);
        return -ENAMETOOLONG;
    }
    return folder;
}

int flotilla_local_listen(const char *directory, const char *name) {
    struct sockaddr_un address;
    int folder = local_address(directory, name, &address);
    if (folder < 0) {
        return folder;
    }
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0) {
        return fail_closing(folder);
    }
    unlink(address.sun_path);
    mode_t mask = umask(0177);
    int result = bind(listener, (struct sockaddr *)&address, sizeof address);
    umask(mask);
    if (result < 0 || listen(listener, PENDING_CONNECTIONS) < 0) {
        result = fail_closing(listener);
        close(folder);
        return result;
    }
    close(folder);
    return listener;
}

int flotilla_local_connect(const char *directory, const char *name) {
    struct sockaddr_un address;
    int folder = local_address(directory, name, &address);
    if (folder < 0) {
        return folder;
    }
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0) {
        return fail_closing(folder);
    }
    int result;
    do {
        result = connect(connection, (struct sockaddr *)&address, sizeof address);
    } while (result < 0 && errno == EINTR);
    result = result < 0 ? fail_closing(connection) : connection;
    close(folder);
    return result;
}

int flotilla_accept(int listener) {
    int connection;
    do {
        connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    } while (connection < 0 && errno == EINTR);
    return connection < 0 ? -errno : connection;
}

static struct sockaddr_in loopback(uint16_t port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

int flotilla_loopback_connect(uint16_t port) {
    struct sockaddr_in address = loopback(port);
    int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (connection < 0) {
        return -errno;
    }
    if (connect(connection, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS && errno != EINTR) {
        return fail_closing(connection);
    }
    return connection;
}

int flotilla_free_port(void) {
    struct sockaddr_in address = loopback(0);
    socklen_t count = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) {
        return -errno;
    }
    if (bind(listener, (struct sockaddr *)&address, count) < 0
        || getsockname(listener, (struct sockaddr *)&address, &count) < 0) {
        return fail_closing(listener);
    }
    close(listener);
    return ntohs(address.sin_port);
}
