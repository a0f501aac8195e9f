/*
 * Moves a process's wall clock by the number of seconds in a file. The file is read at each call. Load it with
 * LD_PRELOAD, and put the file's name into CLOCK_SHIFT. The file has eight bytes, an int64 in the machine's byte order,
 * and must not be made shorter. Monotonic clocks are left alone.
 *
 * Does not: imitate what a jump does to a wait until a wall-clock time that is under way.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *shift;

__attribute__((constructor)) static void map(void)
{
    const char *name = getenv("CLOCK_SHIFT");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *at = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (at != MAP_FAILED)
        shift = at;
}

static int64_t seconds(void)
{
    return shift ? *shift : 0;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, ts);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        ts->tv_sec += seconds();
    return failed;
}

int gettimeofday(struct timeval *tv, void *zone)
{
    (void)zone;
    struct timespec ts;
    int failed = clock_gettime(CLOCK_REALTIME, &ts);
    if (!failed) {
        tv->tv_sec = ts.tv_sec;
        tv->tv_usec = ts.tv_nsec / 1000;
    }
    return failed;
}

time_t time(time_t *out)
{
    struct timespec ts;
    if (clock_gettime(CLOCK_REALTIME, &ts))
        return (time_t)-1;
    if (out)
        *out = ts.tv_sec;
    return ts.tv_sec;
}

int timespec_get(struct timespec *ts, int base)
{
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, ts) ? base : 0;
}

/* The kernel waits by its own clock. A deadline that is far from the wall clock is of another clock. */
static struct timespec real(const struct timespec *until)
{
    struct timespec now, at = *until;
    clock_gettime(CLOCK_REALTIME, &now);
    if (llabs((long long)(at.tv_sec - now.tv_sec)) < 86400 * 365)
        at.tv_sec -= seconds();
    return at;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!next)
        next = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!next)
        next = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec at = real(until);
    return next(cond, mutex, &at);
}

/* C's own, which the C library does not lead through the one above. */
int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until)
{
    static int (*next)(cnd_t *, mtx_t *, const struct timespec *);
    if (!next)
        next = dlsym(RTLD_NEXT, "cnd_timedwait");
    struct timespec at = real(until);
    return next(cond, mutex, &at);
}
