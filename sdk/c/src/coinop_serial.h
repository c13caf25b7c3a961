/* A device's end of a serial line: whole messages, in sequence and once, over
 * bytes that may be lost or changed (package world/link/serial). Stop and wait:
 * one frame of at most 250 bytes of payload is under way in each direction. */
#ifndef COINOP_SERIAL_H
#define COINOP_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef COINOP_SERIAL_MAX
#define COINOP_SERIAL_MAX 1024 /* bytes in a message, either way: 250 to 65,535 */
#endif
#ifndef COINOP_SERIAL_QUEUE
#define COINOP_SERIAL_QUEUE 2048 /* bytes of messages that wait, with two for each */
#endif

/* What a line needs of its board. */
struct coinop_serial_port {
    void *self;
    void (*write)(void *self, const uint8_t *bytes, size_t size);     /* to the line */
    void (*message)(void *self, const uint8_t *message, size_t size); /* a whole one came */
    void (*up)(void *self);                                           /* the link came up */
    uint32_t (*random)(void *self);
    const char *name; /* for people, at most 64 bytes */
};

struct coinop_serial {
    const struct coinop_serial_port *port;
    bool up;
    uint32_t mine, yours, now;
    uint16_t max;                 /* that the other end takes */
    uint32_t heard, hello, sent;  /* when something came, HELLO went, a frame went */
    uint8_t out, in, tries;       /* numbers of the next frames; tries of the one under way */
    uint8_t frame[256];           /* that is coming in */
    size_t frame_size;            /* 256: too long, thrown away */
    uint8_t message[COINOP_SERIAL_MAX];
    size_t message_size;          /* COINOP_SERIAL_MAX + 1: too long, thrown away */
    uint8_t queue[COINOP_SERIAL_QUEUE];
    size_t queue_size, queue_sent; /* of the first message, acknowledged */
};

void coinop_serial_start(struct coinop_serial *s, const struct coinop_serial_port *port, uint32_t now);
bool coinop_serial_send(struct coinop_serial *s, const uint8_t *message, size_t size); /* false: down, or full */
void coinop_serial_receive(struct coinop_serial *s, const uint8_t *bytes, size_t size);
void coinop_serial_tick(struct coinop_serial *s, uint32_t now); /* milliseconds; ten times a second or more */

#endif
