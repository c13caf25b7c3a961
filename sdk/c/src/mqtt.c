#include "coinop_mqtt.h"

#include "parts.h"

/* First bytes of packets (MQTT 3.1.1, section 2.2). */
enum { CONNECT = 0x10, CONNACK = 0x20, PUBLISH = 0x30, PUBACK = 0x40, SUBSCRIBE = 0x82, SUBACK = 0x90, PINGREQ = 0xc0 };

enum { ANSWER_WITHIN = 10000 /* ms */, SUBSCRIPTION = 1, LENGTH_MOST = 4 };

static void put_string(struct writer *w, const char *text) {
    size_t n = length_of(text);
    put_u16(w, (uint16_t)n);
    put(w, text, n);
}

static void write_all(struct coinop_mqtt *m, const uint8_t *b, size_t n) {
    m->wrote = m->now;
    m->port->write(m->port->self, b, n);
}

/* A packet is written behind room for its first byte and its length, which is
 * known at the end. Lengths are core/codec's varints. */
static struct writer packet_start(uint8_t *b) {
    struct writer w;
    w.b = b;
    w.n = 1 + LENGTH_MOST;
    w.room = COINOP_MQTT_MAX;
    return w;
}

static bool packet_write(struct coinop_mqtt *m, uint8_t type, const struct writer *w) {
    uint8_t head[1 + LENGTH_MOST];
    struct writer h = {head, 0, sizeof head};
    size_t start;
    if (!put_fits(w)) {
        return false;
    }
    put_u8(&h, type);
    put_uint(&h, w->n - sizeof head);
    start = sizeof head - h.n;
    memcpy(w->b + start, head, h.n);
    write_all(m, w->b + start, w->n - start);
    return true;
}

void coinop_mqtt_start(struct coinop_mqtt *m, const struct coinop_mqtt_port *port, uint32_t now) {
    enum { CLEAN = 2, PASSWORD = 0x40, USER = 0x80, LEVEL = 4 };
    uint8_t b[COINOP_MQTT_MAX];
    struct writer w = packet_start(b);
    memset(m, 0, sizeof *m);
    m->port = port;
    m->now = m->heard = now;
    put_string(&w, "MQTT");
    put_u8(&w, LEVEL);
    put_u8(&w, (uint8_t)(CLEAN | (port->user != NULL ? USER : 0) | (port->password != NULL ? PASSWORD : 0)));
    put_u16(&w, port->keepalive);
    put_string(&w, port->client);
    if (port->user != NULL) {
        put_string(&w, port->user);
    }
    if (port->password != NULL) {
        put_string(&w, port->password);
    }
    m->dead = !packet_write(m, CONNECT, &w);
}

bool coinop_mqtt_send(struct coinop_mqtt *m, const uint8_t *message, size_t size) {
    uint8_t b[COINOP_MQTT_MAX];
    struct writer w = packet_start(b);
    if (!m->up || m->dead) {
        return false;
    }
    put_string(&w, m->port->publish);
    put(&w, message, size);
    return packet_write(m, PUBLISH, &w);
}

static void subscribe(struct coinop_mqtt *m) {
    uint8_t b[COINOP_MQTT_MAX];
    struct writer w = packet_start(b);
    put_u16(&w, SUBSCRIPTION);
    put_string(&w, m->port->subscribe);
    put_u8(&w, 1); /* QoS at most */
    m->dead = !packet_write(m, SUBSCRIBE, &w);
}

static void published(struct coinop_mqtt *m, uint8_t flags, struct reader *r) {
    size_t topic = take_u16(r);
    take(r, topic);
    if ((flags & 6u) != 0) {
        uint8_t ack[4] = {PUBACK, 2, 0, 0};
        take_into(r, ack + 2, 2);
        if (!r->bad) {
            write_all(m, ack, sizeof ack);
        }
    }
    if (!r->bad) {
        m->port->message(m->port->self, r->b, r->n);
    }
}

static void take_packet(struct coinop_mqtt *m, uint8_t type, struct reader *r) {
    m->heard = m->now;
    if (type >> 4 == PUBLISH >> 4) {
        published(m, type & 15u, r);
    } else if (type == CONNACK) {
        take_u8(r);
        if (take_u8(r) != 0 || !take_end(r)) {
            m->dead = true; /* it does not let us in */
        } else {
            subscribe(m);
        }
    } else if (type == SUBACK) {
        uint16_t id = take_u16(r);
        if (id != SUBSCRIPTION || take_u8(r) > 2 || !take_end(r)) {
            m->dead = true;
        } else if (!m->up) {
            m->up = true;
            m->port->up(m->port->self);
        }
    }
}

/* whole looks for a packet at the front: its size, or 0 if more must come. */
static size_t whole(struct coinop_mqtt *m, size_t *body) {
    size_t length = 0, i;
    for (i = 1; i <= LENGTH_MOST && i < m->have; i++) {
        length |= (size_t)(m->packet[i] & 0x7fu) << (7 * (i - 1));
        if (m->packet[i] < 0x80) {
            *body = i + 1;
            return i + 1 + length;
        }
    }
    m->dead = m->dead || i > LENGTH_MOST;
    return 0;
}

/* Bytes are taken one by one until a packet's length is known, and then as many
 * as it has. */
void coinop_mqtt_receive(struct coinop_mqtt *m, const uint8_t *bytes, size_t size) {
    while (size > 0 && !m->dead) {
        size_t body = 0, end = whole(m, &body), n;
        struct reader r;
        if (m->skip > 0) {
            n = size < m->skip ? size : m->skip;
            m->skip -= n;
        } else if (end == 0) {
            n = 1;
            m->packet[m->have] = *bytes;
            m->have++;
        } else {
            n = end - m->have < size ? end - m->have : size;
            memcpy(m->packet + m->have, bytes, n);
            m->have += n;
        }
        bytes += n;
        size -= n;
        end = whole(m, &body);
        if (end > sizeof m->packet) {
            m->skip = end - m->have;
            m->have = 0;
        } else if (end > 0 && m->have == end) {
            r.b = m->packet + body;
            r.n = end - body;
            r.bad = false;
            m->have = 0;
            take_packet(m, m->packet[0], &r);
        }
    }
}

bool coinop_mqtt_tick(struct coinop_mqtt *m, uint32_t now) {
    static const uint8_t ping[2] = {PINGREQ, 0};
    uint32_t silence = m->port->keepalive * 1000u;
    m->now = now;
    if (now - m->heard >= (m->up ? silence + silence / 2 : ANSWER_WITHIN)) {
        m->dead = true;
    } else if (m->up && now - m->heard >= silence / 2 && now - m->wrote >= silence / 4) {
        write_all(m, ping, sizeof ping);
    }
    return !m->dead;
}
