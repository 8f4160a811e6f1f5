// A layer between a process and the C library (LD_PRELOAD), for tests: it sees every operation on the files of one folder, in order. It can write them
// down, end the process before one of them, let them fail, and move the wall clock. tests/it/common/disk.rs builds and drives it.
//
//   DISK_FOLDER    the folder whose files are meant
//   DISK_CONTROL   a file with a `struct control`, shared with the test, which may change it at any time
//   DISK_LOG       where to write the operations down; none without it
//
// The log: one header line an operation, followed by its bytes where it has any.
//   C PATH | W PATH OFFSET LENGTH | T PATH LENGTH | S PATH | U PATH | R FROM TO | A LENGTH (what the process said on stdout)

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct control {
    volatile int64_t clock_ns;    // added to the wall clock
    volatile int64_t kill_at;     // 1: the next operation ends the process; counts down; 0 never
    volatile int64_t fail_at;     // 1: the next operation and all after it fail; counts down; 0 never
    volatile int64_t fail_errno;  // with this
};

static struct control *control;
static const char *folder;
static size_t folder_length;
static int log_fd = -1;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
    const char *log = getenv("DISK_LOG"), *shared = getenv("DISK_CONTROL");
    folder = getenv("DISK_FOLDER");
    folder_length = folder ? strlen(folder) : 0;
    if (log) log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int fd = shared ? syscall(SYS_openat, AT_FDCWD, shared, O_RDWR | O_CLOEXEC, 0) : -1;
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) control = map;
    syscall(SYS_close, fd);
}

// The path below the folder, or NULL for a file that is not meant: another folder's, and what no disk keeps.
static const char *meant(const char *path) {
    if (!control || !folder || strncmp(path, folder, folder_length)) return NULL;
    path += folder_length;
    if (*path == '\0') return "/";
    if (*path++ != '/' || strstr(path, "-shm") || !strcmp(path, "lock") || strstr(path, ".sock")) return NULL;
    return path;
}

static const char *path_of(int fd, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length < 0) return NULL;
    buffer[length] = '\0';
    return meant(buffer);
}

static void all(const void *bytes, size_t length) {
    while (length) {
        ssize_t written = syscall(SYS_write, log_fd, bytes, length);
        if (written <= 0) _exit(99);
        bytes = (const char *)bytes + written;
        length -= written;
    }
}

__attribute__((format(printf, 3, 4))) static void note(const void *bytes, size_t length, const char *format, ...) {
    if (log_fd < 0) return;
    char line[2 * PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    int line_length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    all(line, line_length);
    all(bytes, length);
}

// Before each operation on a file that is meant, under the lock. True: it is to fail, errno is set.
static int is_to_fail(void) {
    if (control->kill_at > 0 && --control->kill_at == 0) {
        syscall(SYS_kill, getpid(), SIGKILL);
        for (;;) pause();
    }
    if (control->fail_at > 1) control->fail_at--;
    else if (control->fail_at == 1) return errno = control->fail_errno, 1;
    return 0;
}

// An operation that fails with -1: carried out, written down if it went well.
#define OPERATION(path, call, noting)               \
    pthread_mutex_lock(&one_at_a_time);             \
    int failed = is_to_fail();                      \
    __typeof__(call) result = failed ? -1 : (call); \
    int kept = errno;                               \
    if (result >= 0) noting;                        \
    pthread_mutex_unlock(&one_at_a_time);           \
    errno = kept;                                   \
    return result

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    char buffer[PATH_MAX];
    const char *path = path_of(fd, buffer);
    if (!path) return REAL(pwrite64)(fd, bytes, length, at);
    OPERATION(path, REAL(pwrite64)(fd, bytes, length, at),
              note(bytes, result, "W %s %lld %zd\n", path, (long long)at, result));
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return pwrite64(fd, bytes, length, at); }

ssize_t write(int fd, const void *bytes, size_t length) {
    if (fd == 1 && log_fd >= 0) {
        pthread_mutex_lock(&one_at_a_time);
        ssize_t said = REAL(write)(fd, bytes, length);
        if (said > 0) note(bytes, said, "A %zd\n", said);
        pthread_mutex_unlock(&one_at_a_time);
        return said;
    }
    char buffer[PATH_MAX];
    const char *path = control ? path_of(fd, buffer) : NULL;
    if (!path) return REAL(write)(fd, bytes, length);
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    OPERATION(path, REAL(write)(fd, bytes, length),
              note(bytes, result, "W %s %lld %zd\n", path, (long long)at, result));
}

int ftruncate64(int fd, off64_t length) {
    char buffer[PATH_MAX];
    const char *path = path_of(fd, buffer);
    if (!path) return REAL(ftruncate64)(fd, length);
    OPERATION(path, REAL(ftruncate64)(fd, length), note("", 0, "T %s %lld\n", path, (long long)length));
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fsync(int fd) {
    char buffer[PATH_MAX];
    const char *path = path_of(fd, buffer);
    if (!path) return REAL(fsync)(fd);
    OPERATION(path, REAL(fsync)(fd), note("", 0, "S %s\n", path));
}

int fdatasync(int fd) {
    char buffer[PATH_MAX];
    const char *path = path_of(fd, buffer);
    if (!path) return REAL(fdatasync)(fd);
    OPERATION(path, REAL(fdatasync)(fd), note("", 0, "S %s\n", path));
}

int unlink(const char *name) {
    const char *path = meant(name);
    if (!path) return REAL(unlink)(name);
    OPERATION(path, REAL(unlink)(name), note("", 0, "U %s\n", path));
}

int rename(const char *from, const char *to) {
    const char *path = meant(from), *new_path = meant(to);
    if (!path || !new_path) return REAL(rename)(from, to);
    OPERATION(path, REAL(rename)(from, to), note("", 0, "R %s %s\n", path, new_path));
}

static int open_any(int (*real_open)(const char *, int, ...), const char *name, int flags, mode_t mode) {
    const char *path = flags & O_CREAT ? meant(name) : NULL;
    struct stat found;
    if (!path || stat(name, &found) == 0) return real_open(name, flags, mode);
    OPERATION(path, real_open(name, flags, mode), note("", 0, "C %s\n", path));
}

int open64(const char *name, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    return open_any(REAL(open64), name, flags, mode);
}

int open(const char *name, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    return open_any(REAL(open), name, flags, mode);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && control) {
        int64_t ns = time->tv_nsec + control->clock_ns % 1000000000;
        time->tv_sec += control->clock_ns / 1000000000 + (ns >= 1000000000) - (ns < 0);
        time->tv_nsec = (ns + 1000000000) % 1000000000;
    }
    return result;
}
