/* Drains the sockets of many viewers and counts what arrives, at a fraction of what sending it costs.
 *
 * One thread looks every POLL_NS at all sockets and takes by recvmmsg what is there. Nobody waits in the kernel for a
 * socket, epoll neither, so the sender, who is charged for the receiving half of the loopback, does not pay for telling
 * us of each datagram; over a network it would not. Arrival times are the kernel's own (SO_TIMESTAMPNS), so they do not
 * depend on when we look. Of SRTP only the clear RTP header is read; everything else (STUN, DTLS, SRTCP) goes to Python
 * through a datagram socket. Loaded by receiver.py, built by cc. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define VIEWERS 4096
#define RING 1024 /* frames that are remembered per viewer: 34 s */
#define BATCH 64
#define SIZE 1600
#define ANCILLARY 64
#define POLL_NS 4000000
#define SECOND 1000000000LL

struct stats {
    uint64_t packets, bytes; /* of the video's SSRC */
    uint64_t missing;        /* sequence numbers that were skipped */
    uint64_t late;           /* packets that came after a higher number, or twice */
    uint64_t frames;         /* markers */
    uint64_t other;          /* RTP with another SSRC */
    uint64_t control;        /* what was handed to Python */
    uint64_t refused;        /* what Python did not take in time */
    uint32_t ssrc, highest;
};

struct frame {
    int64_t ns; /* CLOCK_MONOTONIC */
    uint32_t timestamp, bytes;
};

struct head { /* before each datagram for Python */
    uint32_t viewer, address;
    uint16_t port, unused;
};

struct viewer {
    struct stats stats;
    struct frame *ring;
    uint32_t timestamp, bytes;
    int fd, started;
};

static struct viewer viewers[VIEWERS];
static int count, python = -1;
static pthread_t thread;

static int64_t ns_of(struct timespec t) { return t.tv_sec * SECOND + t.tv_nsec; }

/* What has to be added to CLOCK_REALTIME for CLOCK_MONOTONIC. */
static int64_t offset(void)
{
    struct timespec wall, steady;
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_MONOTONIC, &steady);
    return ns_of(steady) - ns_of(wall);
}

static int64_t arrival(struct msghdr *message, int64_t shift)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            return ns_of(t) + shift;
        }
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return ns_of(t);
}

static int is_rtp(const unsigned char *p, int size)
{
    return size >= 12 && p[0] >= 128 && p[0] < 192 && (p[1] < 192 || p[1] > 223);
}

static void take_rtp(struct viewer *v, const unsigned char *p, int size, int64_t now)
{
    struct stats *s = &v->stats;
    uint16_t sequence = p[2] << 8 | p[3];
    uint32_t timestamp, ssrc;
    memcpy(&timestamp, p + 4, 4);
    memcpy(&ssrc, p + 8, 4);
    timestamp = ntohl(timestamp);
    if (!v->started) {
        v->started = 1;
        v->timestamp = timestamp;
        s->ssrc = ntohl(ssrc);
        s->highest = sequence - 1;
    }
    if (ntohl(ssrc) != s->ssrc) {
        s->other++;
        return;
    }
    int16_t step = sequence - (uint16_t)s->highest;
    if (step <= 0) {
        s->late++;
    } else {
        s->missing += step - 1;
        s->highest += step;
    }
    s->packets++;
    s->bytes += size;
    if (timestamp != v->timestamp) {
        v->timestamp = timestamp;
        v->bytes = 0;
    }
    v->bytes += size - 12 - 4 * (p[0] & 15);
    if (p[1] & 128) {
        struct frame *f = &v->ring[s->frames % RING];
        f->ns = now;
        f->timestamp = timestamp;
        f->bytes = v->bytes;
        v->bytes = 0;
        s->frames++;
    }
}

static void take_control(uint32_t index, const unsigned char *p, int size, const struct sockaddr_in *from)
{
    struct head head = {index, from->sin_addr.s_addr, ntohs(from->sin_port), 0};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)p, size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (sendmsg(python, &message, MSG_DONTWAIT) < 0)
        viewers[index].stats.refused++;
    else
        viewers[index].stats.control++;
}

static unsigned char data[BATCH][SIZE], ancillary[BATCH][ANCILLARY];
static struct sockaddr_in from[BATCH];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];

static void prepare(void)
{
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){data[i], SIZE};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i],
            .msg_iov = &parts[i], .msg_iovlen = 1, .msg_control = ancillary[i], .msg_controllen = ANCILLARY};
    }
}

static void drain(uint32_t index, int64_t shift)
{
    int taken = BATCH;
    while (taken == BATCH) {
        taken = recvmmsg(viewers[index].fd, messages, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < taken; i++) {
            struct msghdr *message = &messages[i].msg_hdr;
            int size = messages[i].msg_len;
            if (is_rtp(data[i], size))
                take_rtp(&viewers[index], data[i], size, arrival(message, shift));
            else
                take_control(index, data[i], size, &from[i]);
            message->msg_namelen = sizeof from[i];
            message->msg_controllen = ANCILLARY;
        }
    }
}

static void *run(void *unused)
{
    prepare();
    for (;;) {
        int64_t shift = offset();
        int known = __atomic_load_n(&count, __ATOMIC_ACQUIRE);
        for (int i = 0; i < known; i++)
            drain(i, shift);
        nanosleep(&(struct timespec){0, POLL_NS}, NULL);
    }
    return unused;
}

int rx_start(int socket_of_python)
{
    python = socket_of_python;
    return pthread_create(&thread, NULL, run, NULL);
}

/* The index of a new viewer, or -1. The socket is ours, and stays open, until the process ends. */
int rx_add(int fd)
{
    int on = 1, index = count;
    if (index == VIEWERS || setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on))
        return -1;
    viewers[index].fd = fd;
    viewers[index].ring = calloc(RING, sizeof(struct frame));
    if (!viewers[index].ring)
        return -1;
    __atomic_store_n(&count, index + 1, __ATOMIC_RELEASE);
    return index;
}

const struct stats *rx_stats(int index) { return &viewers[index].stats; }
const struct frame *rx_frames(int index) { return viewers[index].ring; }
