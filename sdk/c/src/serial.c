#include "coinop_serial.h"

#include "parts.h"

enum {
    HELLO = 1,
    ACK = 2,
    DATA = 3,
    MORE = 4,
    VERSION = 1,
    PLEASE_ANSWER = 1,
    PAYLOAD = 250,
    NAME = 64,
    MAX_TRIES = 8,
    /* milliseconds */
    HELLO_EVERY = 500,
    PING_AFTER = 5000,
    DOWN_AFTER = 15000,
    REPEAT_FIRST = 250,
    REPEAT_MOST = 2000
};

/* CRC-16/CCITT-FALSE. */
static uint16_t crc16(const uint8_t *b, size_t n) {
    uint16_t crc = 0xffff;
    unsigned i;
    for (; n > 0; n--, b++) {
        crc = (uint16_t)(crc ^ (*b << 8));
        for (i = 0; i < 8; i++) {
            crc = (uint16_t)((crc & 0x8000u) != 0 ? (crc << 1) ^ 0x1021 : crc << 1);
        }
    }
    return crc;
}

/* write_frame stuffs a frame: each zero, and the end, is told by the distance from
 * the last (COBS). At most 254 bytes are stuffed, so the distance fits a byte. */
static void write_frame(struct coinop_serial *s, uint8_t type, uint8_t seq, const uint8_t *payload, size_t n) {
    uint8_t b[2 + PAYLOAD + 2 + 3];
    size_t i, last = 1, size = 2 + n + 2;
    uint16_t crc;
    b[0] = 0;
    b[1] = 0;
    b[2] = type;
    b[3] = seq;
    if (n > 0) {
        memcpy(b + 4, payload, n);
    }
    crc = crc16(b + 2, 2 + n);
    b[4 + n] = (uint8_t)(crc >> 8);
    b[5 + n] = (uint8_t)crc;
    b[2 + size] = 0;
    for (i = 2; i <= 2 + size; i++) {
        if (b[i] == 0) {
            b[last] = (uint8_t)(i - last);
            last = i;
        }
    }
    b[2 + size] = 0;
    s->port->write(s->port->self, b, 3 + size);
}

/* unstuff undoes COBS in place; 0 if the distances do not fit. */
static size_t unstuff(uint8_t *b, size_t n) {
    size_t at = 0, to = 0;
    while (at < n) {
        size_t code = b[at];
        if (code == 0 || at + code > n) {
            return 0;
        }
        memmove(b + to, b + at + 1, code - 1);
        to += code - 1;
        at += code;
        if (at < n && code < 255) {
            b[to] = 0;
            to++;
        }
    }
    return to;
}

static void write_hello(struct coinop_serial *s, bool answer) {
    uint8_t b[12 + NAME];
    size_t n = length_of(s->port->name);
    n = n < NAME ? n : NAME;
    b[0] = VERSION;
    b[1] = answer ? PLEASE_ANSWER : 0;
    store32(b + 2, s->mine);
    store32(b + 6, s->yours);
    b[10] = (uint8_t)(COINOP_SERIAL_MAX >> 8);
    b[11] = (uint8_t)(COINOP_SERIAL_MAX & 0xff);
    memcpy(b + 12, s->port->name, n);
    s->hello = s->now;
    write_frame(s, HELLO, 0, b, 12 + n);
}

static void forget(struct coinop_serial *s) {
    s->up = false;
    s->out = s->in = s->tries = 0;
    s->message_size = 0;
    s->queue_size = s->queue_sent = 0;
}

/* give_up starts again with a peer that does not answer. */
static void give_up(struct coinop_serial *s) {
    forget(s);
    s->yours = 0;
    do {
        s->mine = s->port->random(s->port->self);
    } while (s->mine == 0);
    write_hello(s, true);
}

static size_t first_size(const struct coinop_serial *s) { return (size_t)s->queue[0] << 8 | s->queue[1]; }

/* transmit writes the piece that is under way, if there is one. */
static void transmit(struct coinop_serial *s) {
    size_t n;
    uint8_t type = DATA;
    if (!s->up || s->queue_size == 0) {
        return;
    }
    n = first_size(s) - s->queue_sent;
    if (n > PAYLOAD) {
        n = PAYLOAD;
        type = MORE;
    }
    s->sent = s->now;
    s->tries++;
    write_frame(s, type, s->out, s->queue + 2 + s->queue_sent, n);
}

bool coinop_serial_send(struct coinop_serial *s, const uint8_t *message, size_t size) {
    bool idle = s->queue_size == 0;
    if (!s->up || size == 0 || size > s->max || size > COINOP_SERIAL_MAX || size + 2 > sizeof s->queue - s->queue_size) {
        return false;
    }
    s->queue[s->queue_size] = (uint8_t)(size >> 8);
    s->queue[s->queue_size + 1] = (uint8_t)size;
    memcpy(s->queue + s->queue_size + 2, message, size);
    s->queue_size += 2 + size;
    if (idle) {
        transmit(s);
    }
    return true;
}

/* acknowledged goes on to the next piece, or the next message. */
static void acknowledged(struct coinop_serial *s, uint8_t seq) {
    size_t size;
    if (!s->up || s->queue_size == 0 || s->tries == 0 || seq != s->out) {
        return;
    }
    size = first_size(s);
    s->out++;
    s->tries = 0;
    s->queue_sent = size - s->queue_sent > PAYLOAD ? s->queue_sent + PAYLOAD : size;
    if (s->queue_sent == size) {
        s->queue_size -= 2 + size;
        memmove(s->queue, s->queue + 2 + size, s->queue_size);
        s->queue_sent = 0;
    }
    transmit(s);
}

static void hello(struct coinop_serial *s, const uint8_t *b, size_t n) {
    bool was_up = s->up;
    uint32_t mine, yours;
    if (n < 12 || n > 12 + NAME || b[0] != VERSION) {
        return;
    }
    mine = load32(b + 2);
    yours = load32(b + 6);
    if (mine == s->mine) {
        return; /* our own echo */
    }
    if (mine != s->yours) {
        forget(s);
        s->yours = mine;
        was_up = false;
    }
    s->max = (uint16_t)(b[10] << 8 | b[11]);
    s->up = s->up || yours == s->mine;
    if ((b[1] & PLEASE_ANSWER) != 0 || yours != s->mine) {
        write_hello(s, !s->up);
    }
    if (s->up && !was_up) {
        s->port->up(s->port->self);
    }
}

/* piece takes a part of a message that is the next in sequence. What it is of is
 * handed on after the acknowledgement, so that the other end need not wait. */
static void piece(struct coinop_serial *s, uint8_t type, uint8_t seq, const uint8_t *b, size_t n) {
    if (!s->up) {
        return;
    }
    if (seq == (uint8_t)(s->in - 1)) {
        write_frame(s, ACK, seq, NULL, 0);
        return;
    }
    if (seq != s->in) {
        return;
    }
    s->in++;
    write_frame(s, ACK, seq, NULL, 0);
    if (s->message_size + n > sizeof s->message) {
        s->message_size = sizeof s->message + 1;
    } else {
        memcpy(s->message + s->message_size, b, n);
        s->message_size += n;
    }
    if (type == DATA) {
        size_t size = s->message_size;
        s->message_size = 0;
        if (size <= sizeof s->message) {
            s->port->message(s->port->self, s->message, size);
        }
    }
}

static void take_frame(struct coinop_serial *s) {
    uint8_t *b = s->frame;
    size_t n = unstuff(b, s->frame_size);
    if (n < 4 || crc16(b, n) != 0) {
        return; /* noise; whoever sent more than noise sends it again */
    }
    n -= 4;
    switch (b[0]) {
    case HELLO:
        s->heard = s->now;
        hello(s, b + 2, n);
        break;
    case ACK:
        s->heard = s->now;
        if (n == 0) {
            acknowledged(s, b[1]);
        }
        break;
    case DATA:
    case MORE:
        s->heard = s->now;
        piece(s, b[0], b[1], b + 2, n);
        break;
    default:
        break;
    }
}

void coinop_serial_receive(struct coinop_serial *s, const uint8_t *bytes, size_t size) {
    for (; size > 0; size--, bytes++) {
        if (*bytes != 0) {
            if (s->frame_size < sizeof s->frame) {
                s->frame[s->frame_size] = *bytes;
                s->frame_size++;
            }
            continue;
        }
        if (s->frame_size > 0 && s->frame_size < sizeof s->frame) {
            take_frame(s);
        }
        s->frame_size = 0;
    }
}

void coinop_serial_tick(struct coinop_serial *s, uint32_t now) {
    uint32_t pause;
    s->now = now;
    if (!s->up) {
        if (now - s->hello >= HELLO_EVERY) {
            write_hello(s, true);
        }
        return;
    }
    pause = s->tries > 3 ? REPEAT_MOST : (uint32_t)REPEAT_FIRST << (s->tries > 0 ? s->tries - 1 : 0);
    if (now - s->heard >= DOWN_AFTER) {
        give_up(s);
    } else if (s->queue_size > 0 && now - s->sent >= pause) {
        if (s->tries >= MAX_TRIES) {
            give_up(s);
        } else {
            transmit(s);
        }
    } else if (now - s->heard >= PING_AFTER && now - s->hello >= HELLO_EVERY) {
        write_hello(s, true);
    }
}

void coinop_serial_start(struct coinop_serial *s, const struct coinop_serial_port *port, uint32_t now) {
    memset(s, 0, sizeof *s);
    s->port = port;
    s->now = s->heard = now;
    give_up(s);
}
