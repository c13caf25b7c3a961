/* A device on the host, for sdk_test.go: what a board would have is a file, a
 * clock and a pipe. The test talks to it in frames of kind, length (32 bits,
 * big-endian) and bytes:
 *
 *	in   M message  L linked  P order+coins  T order+msat  S settle  B order+units+item
 *	     C unix ms  K hold back commands until D  D order done  Q quit
 *	out  m message  a answer  n news+id+goods  x order acted on
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "coinop.h"
#include "link.h"

static struct coinop_device device;
static int flash, world;
static long tear = -1; /* writes until the power fails in the middle of one */
static long writes;
static bool slow;

uint32_t milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint32_t)(t.tv_sec * 1000 + t.tv_nsec / 1000000);
}

static void all(int fd, const void *bytes, size_t n) {
    const uint8_t *b = bytes;
    while (n > 0) {
        ssize_t k = write(fd, b, n);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k <= 0) {
            exit(3);
        }
        b += k;
        n -= (size_t)k;
    }
}

static void out(char kind, const void *bytes, size_t n) {
    uint8_t frame[5 + 65536];
    frame[0] = (uint8_t)kind;
    frame[1] = (uint8_t)(n >> 24);
    frame[2] = (uint8_t)(n >> 16);
    frame[3] = (uint8_t)(n >> 8);
    frame[4] = (uint8_t)n;
    memcpy(frame + 5, bytes, n);
    all(STDOUT_FILENO, frame, 5 + n);
}

static void send_message(void *self, const uint8_t *message, size_t size) {
    (void)self;
    if (!link_send(message, size)) {
        out('m', message, size);
    }
}

static bool read_slot(void *self, uint32_t slot, uint8_t *bytes) {
    (void)self;
    memset(bytes, 0xff, COINOP_SLOT);
    return pread(flash, bytes, COINOP_SLOT, (off_t)slot * COINOP_SLOT) >= 0;
}

static bool write_slot(void *self, uint32_t slot, const uint8_t *bytes) {
    size_t n = COINOP_SLOT;
    (void)self;
    writes++;
    if (writes == tear) {
        n = (size_t)(milliseconds() * 31u) % COINOP_SLOT;
    }
    if (pwrite(flash, bytes, n, (off_t)slot * COINOP_SLOT) != (ssize_t)n) {
        return false;
    }
    if (writes == tear) {
        _exit(9);
    }
    return true;
}

static void tell(void *self, enum coinop_news news, const uint8_t id[COINOP_ID]) {
    uint8_t b[1 + COINOP_ID + 1024];
    size_t n = news == COINOP_GOODS || news == COINOP_DECLINED ? device.goods_size : 0;
    (void)self;
    b[0] = (uint8_t)news;
    memcpy(b + 1, id, COINOP_ID);
    if (n > 0) {
        memcpy(b + 1 + COINOP_ID, device.goods, n);
    }
    out('n', b, 1 + COINOP_ID + n);
}

static enum coinop_result act(void *self, const struct coinop_command *c, struct coinop_outcome *o) {
    (void)self;
    if (strcmp(c->item, "jam") == 0) {
        strcpy(o->why, "it is jammed");
        return COINOP_FAILED;
    }
    all(world, c->order, COINOP_ID); /* the world, which remembers */
    out('x', c->order, COINOP_ID);
    if (slow) {
        return COINOP_ACTING;
    }
    memcpy(o->reading, "42", 2);
    o->reading_size = 2;
    return COINOP_ACTED;
}

static uint64_t number(const uint8_t *b, int n) {
    uint64_t v = 0;
    while (n-- > 0) {
        v = v << 8 | *b++;
    }
    return v;
}

static void handle(char kind, const uint8_t *b, size_t n) {
    struct coinop_outcome o = {{0}, {0}, 0};
    char item[COINOP_NAME] = {0};
    uint8_t answer;
    switch (kind) {
    case 'M':
        coinop_receive(&device, b, n);
        return;
    case 'L':
        coinop_linked(&device);
        return;
    case 'S':
        coinop_settle(&device);
        return;
    case 'C':
        coinop_clock(&device, number(b, 8));
        return;
    case 'B':
        memcpy(item, b + 24, n - 24);
        coinop_buy(&device, b, item, number(b + 16, 8));
        return;
    case 'K':
        slow = true;
        return;
    case 'D':
        coinop_acted(&device, COINOP_ACTED, &o);
        return;
    case 'P':
        answer = (uint8_t)coinop_pay(&device, b, (uint32_t)number(b + 16, 8));
        break;
    case 'T':
        answer = (uint8_t)coinop_pay_msat(&device, b, number(b + 16, 8));
        break;
    default:
        exit(0);
    }
    out('a', &answer, 1);
}

void link_message(const uint8_t *message, size_t size) { coinop_receive(&device, message, size); }
void link_up(void) { coinop_linked(&device); }

static size_t load(const char *path, uint8_t *b, size_t room) {
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, b, room);
    if (n < 0) {
        perror(path);
        exit(2);
    }
    close(fd);
    return (size_t)n;
}

/* agent KEY BLOB FLASH WORLD TEAR [LINK] */
int main(int argc, char **argv) {
    static uint8_t key[32], blob[2048], in[70000];
    static struct coinop_port port = {NULL, send_message, read_slot, write_slot, 8, tell, act, "agent 1"};
    size_t size, have = 0;
    if (argc < 6) {
        return 2;
    }
    load(argv[1], key, sizeof key);
    size = load(argv[2], blob, sizeof blob);
    flash = open(argv[3], O_RDWR | O_CREAT, 0600);
    world = open(argv[4], O_WRONLY | O_CREAT | O_APPEND, 0600);
    tear = atol(argv[5]);
    if (argc > 6) {
        link_open(argv[6]);
    }
    if (!coinop_start(&device, &port, key, blob, size)) {
        fprintf(stderr, "agent: coinop_start refuses\n");
        return 4;
    }
    for (;;) {
        struct pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {link_fd(), POLLIN, 0}};
        ssize_t n;
        coinop_tick(&device, milliseconds());
        link_tick(milliseconds());
        if (poll(fds, 2, 20) < 0 && errno != EINTR) {
            return 3;
        }
        if (fds[1].revents != 0) {
            link_read();
        }
        if (fds[0].revents == 0) {
            continue;
        }
        n = read(STDIN_FILENO, in + have, sizeof in - have);
        if (n <= 0) {
            return 0;
        }
        have += (size_t)n;
        while (have >= 5 && have >= 5 + number(in + 1, 4)) {
            size = 5 + (size_t)number(in + 1, 4);
            handle((char)in[0], in + 5, size - 5);
            have -= size;
            memmove(in, in + size, have);
        }
    }
}
