/* Commands, and the device's word on them (core/fleet). A device acts once for
 * each number, and says so with a signature and a count. That it begins is in
 * flash before it acts, so after a power cut it knows that it does not know. */
#include "parts.h"

enum { TYPE_ACK = 0x8903, TYPE_STATUS = 0x8905, TYPE_TROUBLE = 0x8907, MAX_TEXT = 160, MAX_FIRMWARE = 64 };

static uint32_t fold(const uint8_t order[COINOP_ID]) {
    return load32(order) ^ load32(order + 4) ^ load32(order + 8) ^ load32(order + 12);
}

/* Seals: what is signed is text, a line for each field. A gateway that shares a
 * secret with the device uses that; else each has a key. */

static bool shares(const struct coinop_device *d) { return d->gateway_size == SHARED; }

void seal_start(const struct coinop_device *d, struct sha256 *s, const char *tag, const char *purpose) {
    if (!shares(d)) {
        sha256_tagged(s, tag);
        return;
    }
    hmac_start(s, d->gateway);
    sha256_add(s, "coinop/mac/", 11);
    sha256_add(s, purpose, length_of(purpose) + 1); /* the 0 too */
}

/* seal_good checks a seal of the gateway's, of what was stirred in. */
bool seal_good(const struct coinop_device *d, struct sha256 *s, const uint8_t *sig, size_t size) {
    uint8_t sum[32], differs = 0;
    size_t i;
    if (!shares(d)) {
        sha256_end(s, sum);
#if COINOP_VERIFY
        return size == MAX_SIG && ecdsa_verify(d->gateway, sum, sig);
#else
        return false;
#endif
    }
    hmac_end(s, d->gateway, sum);
    if (size != sizeof sum) {
        return false;
    }
    for (i = 0; i < sizeof sum; i++) {
        differs = (uint8_t)(differs | (sum[i] ^ sig[i]));
    }
    return differs == 0;
}

static void line_end(struct sha256 *s) { sha256_add(s, "\n", 1); }

static void line_number(struct sha256 *s, uint64_t v) {
    char text[21];
    const char *number = decimal(v, text);
    sha256_add(s, number, length_of(number));
    line_end(s);
}

static void line_text(struct sha256 *s, const void *text, size_t n) {
    sha256_add(s, text, n);
    line_end(s);
}

static void line_hex(struct sha256 *s, const uint8_t *b, size_t n) {
    static const char digits[] = "0123456789abcdef";
    for (; n > 0; n--, b++) {
        sha256_add(s, &digits[*b >> 4], 1);
        sha256_add(s, &digits[*b & 15], 1);
    }
    line_end(s);
}

/* genuine checks a command's seal. Its last line has no end. */
static bool genuine(const struct coinop_device *d, const struct coinop_command *c, const uint8_t *sig, size_t size) {
    struct sha256 s;
    seal_start(d, &s, "coinop/command", "command");
    if (shares(d)) {
        line_text(&s, "-", 1); /* to the gateway it has no key */
    } else {
        line_hex(&s, d->pub, sizeof d->pub);
    }
    line_number(&s, c->gateway);
    line_text(&s, d->name, d->name_size);
    line_number(&s, c->number);
    line_hex(&s, c->order, COINOP_ID);
    line_text(&s, c->verb, length_of(c->verb));
    line_text(&s, c->item, length_of(c->item));
    line_number(&s, c->units);
    line_number(&s, c->until);
    sha256_add(&s, c->test ? "1" : "0", 1);
    return seal_good(d, &s, sig, size);
}

/* result is an ack's: 1 acted, 2 unknown, 0 certainly not. */
static uint8_t result_of(const struct coinop_ack *a) {
    return a->result == COINOP_ACTED ? 1 : a->result == COINOP_UNKNOWN ? 2 : 0;
}

/* send_ack signs and sends the last ack. The same ack has the same signature. */
static void send_ack(struct coinop_device *d) {
    const struct coinop_ack *a = &d->ack;
    const struct coinop_outcome *o = &a->outcome;
    struct writer w = message_start(d, TYPE_ACK);
    struct sha256 s;
    uint8_t sum[32], sig[64];
    seal_start(d, &s, "coinop/ack", "ack");
    line_number(&s, a->gateway);
    line_text(&s, d->name, d->name_size);
    line_number(&s, a->number);
    line_hex(&s, a->order, COINOP_ID);
    line_number(&s, a->counter);
    line_number(&s, result_of(a));
    line_hex(&s, o->reading, o->reading_size);
    sha256_add(&s, o->why, length_of(o->why));
    put_uint(&w, a->gateway);
    put_text(&w, d->name, d->name_size);
    put_uint(&w, a->number);
    put(&w, a->order, COINOP_ID);
    put_uint(&w, a->counter);
    put_u8(&w, result_of(a));
    put_text(&w, o->why, length_of(o->why));
    put_text(&w, o->reading, o->reading_size);
    if (shares(d)) {
        hmac_end(&s, d->gateway, sum);
        put_text(&w, sum, sizeof sum);
    } else {
        sha256_end(&s, sum);
        ecdsa_sign(sig, d->key, sum);
        put_text(&w, sig, sizeof sig);
    }
    message_send(d, &w);
}

/* finish makes the ack of a command and keeps it. False: not durably. */
static bool finish(struct coinop_device *d, uint32_t gateway, uint64_t number, const uint8_t order[COINOP_ID],
                   enum coinop_result result, const struct coinop_outcome *outcome) {
    struct coinop_ack *a = &d->ack;
    a->gateway = gateway;
    a->number = number;
    a->counter++;
    memmove(a->order, order, COINOP_ID);
    a->result = result;
    memmove(&a->outcome, outcome, sizeof a->outcome);
    a->outcome.why[COINOP_WHY - 1] = 0;
    if (a->outcome.reading_size > COINOP_READING) {
        a->outcome.reading_size = COINOP_READING;
    }
    d->duties[gateway].result[number % COINOP_WINDOW] = (uint8_t)result;
    d->changed = true;
    return device_save(d);
}

static void because(struct coinop_outcome *o, const char *why) {
    memset(o, 0, sizeof *o);
    memcpy(o->why, why, length_of(why));
}

/* late is why a command must not be begun any more, or NULL. */
static const char *late(const struct coinop_device *d, uint64_t until) {
    if (until == 0) {
        return NULL;
    }
    if (d->unix_ahead == 0) {
        return "its clock is not set";
    }
    return until <= device_time(d) ? "it came too late" : NULL;
}

/* act begins a command, in flash and then in the world. While one is under way
 * others wait: the gateway repeats them. */
static void act(struct coinop_device *d, const struct coinop_command *c) {
    struct coinop_duty *y = &d->duties[c->gateway];
    struct coinop_outcome o;
    const char *why = late(d, c->until);
    uint32_t at = (uint32_t)c->number % COINOP_WINDOW;
    enum coinop_result result = COINOP_FAILED;
    if (d->ack.result == COINOP_ACTING) {
        return;
    }
    for (; y->last < c->number; y->last++) {
        if (c->number - y->last > COINOP_WINDOW) {
            y->last = c->number - COINOP_WINDOW; /* all of the window is new */
        }
        y->result[(y->last + 1) % COINOP_WINDOW] = COINOP_NEVER;
    }
    y->result[at] = COINOP_ACTING;
    y->order[at] = fold(c->order);
    because(&o, why != NULL ? why : "");
    if (why == NULL) {
        d->ack.gateway = c->gateway;
        d->ack.number = c->number;
        memcpy(d->ack.order, c->order, COINOP_ID);
        d->ack.result = COINOP_ACTING;
        d->changed = true;
        if (!device_save(d)) {
            return;
        }
        result = d->port->act(d->port->self, c, &o);
    }
    if (result != COINOP_ACTING && finish(d, c->gateway, c->number, c->order, result, &o)) {
        send_ack(d);
    }
}

void coinop_acted(struct coinop_device *d, enum coinop_result result, const struct coinop_outcome *outcome) {
    if (d->ack.result == COINOP_ACTING && !d->broken && finish(d, d->ack.gateway, d->ack.number, d->ack.order, result, outcome)) {
        send_ack(d);
    }
}

/* duty_recover answers for the command that a power cut interrupted, once the
 * link is up. */
void duty_recover(struct coinop_device *d) {
    struct coinop_outcome o;
    if (d->ack.result == COINOP_ACTING) {
        because(&o, "the power failed while it acted");
        finish(d, d->ack.gateway, d->ack.number, d->ack.order, COINOP_UNKNOWN, &o);
    }
}

/* again answers a repeated command: with the same ack, or if that is forgotten
 * with one that says the same. A number that was another order's is answered
 * with what is left of that one's name, which tells the gateway. */
static void again(struct coinop_device *d, const struct coinop_command *c) {
    struct coinop_duty *y = &d->duties[c->gateway];
    uint32_t at = (uint32_t)c->number % COINOP_WINDOW;
    uint8_t other[COINOP_ID] = {0};
    struct coinop_outcome o;
    if (d->ack.result == COINOP_ACTING) {
        return; /* the ack comes when that is done */
    }
    if (d->ack.gateway == c->gateway && d->ack.number == c->number) {
        send_ack(d);
        return;
    }
    because(&o, y->result[at] == COINOP_ACTED ? "" : "answered before");
    store32(other, y->order[at]);
    if (finish(d, c->gateway, c->number, y->order[at] == fold(c->order) ? c->order : other, (enum coinop_result)y->result[at], &o)) {
        send_ack(d);
    }
}

static bool take_name(struct reader *r, char name[COINOP_NAME]) {
    size_t n;
    const uint8_t *b = take_text(r, COINOP_NAME - 1, &n);
    if (b != NULL) {
        memcpy(name, b, n);
        name[n] = 0;
    }
    return b != NULL && n > 0 && length_of(name) == n;
}

/* duty_receive takes a fleet.Command. */
void duty_receive(struct coinop_device *d, struct reader *r) {
    struct coinop_command c;
    struct coinop_duty *y;
    const uint8_t *name, *sig;
    size_t name_size, sig_size;
    bool named;
    c.gateway = (uint32_t)take_uint(r, 15);
    name = take_text(r, COINOP_NAME - 1, &name_size);
    c.number = take_uint(r, UINT64_MAX);
    take_into(r, c.order, COINOP_ID);
    named = take_name(r, c.verb);
    named = take_name(r, c.item) && named;
    c.units = take_uint(r, UINT64_MAX);
    c.until = take_uint(r, UINT64_MAX);
    c.test = take_uint(r, 1) == 1;
    sig = take_text(r, MAX_SIG, &sig_size);
    if (!take_end(r) || !named || c.gateway >= COINOP_GATEWAYS || c.number == 0 || name_size != d->name_size ||
        memcmp(name, d->name, name_size) != 0 || d->gateway_size == 0 || d->broken || !genuine(d, &c, sig, sig_size)) {
        return;
    }
    y = &d->duties[c.gateway];
    if (c.number > y->last || (y->last - c.number < COINOP_WINDOW && y->result[c.number % COINOP_WINDOW] == COINOP_NEVER)) {
        act(d, &c);
    } else if (y->last - c.number < COINOP_WINDOW) {
        again(d, &c);
    } else if (d->ack.gateway == c.gateway && d->ack.result != COINOP_ACTING) {
        send_ack(d); /* it has ended, but its gateway has forgotten: this tells how far they were */
    }
}

static void put_limited(struct writer *w, const char *text, size_t limit) {
    size_t n = length_of(text);
    put_text(w, text, n < limit ? n : limit);
}

/* duty_status says that the device is there, which a gateway answers with the
 * time. */
void duty_status(struct coinop_device *d) {
    struct writer w = message_start(d, TYPE_STATUS);
    d->asked = d->now;
    put_text(&w, d->name, d->name_size);
    put_limited(&w, d->port->firmware, MAX_FIRMWARE);
    put_uint(&w, d->ack.counter);
    message_send(d, &w);
}

void coinop_trouble(struct coinop_device *d, const char *text) {
    struct writer w = message_start(d, TYPE_TROUBLE);
    put_text(&w, d->name, d->name_size);
    put_limited(&w, text, MAX_TEXT);
    message_send(d, &w);
}

/* duty_linked says what a gateway that was away should know. */
void duty_linked(struct coinop_device *d) {
    if (d->gateway_size != 0) {
        duty_status(d);
    }
    if (d->ack.counter > 0 && d->ack.result != COINOP_ACTING && !d->broken) {
        send_ack(d);
    }
}

void duty_store(const struct coinop_device *d, struct writer *w) {
    const struct coinop_ack *a = &d->ack;
    uint32_t g, i;
    put_u8(w, COINOP_GATEWAYS);
    for (g = 0; g < COINOP_GATEWAYS; g++) {
        const struct coinop_duty *y = &d->duties[g];
        put_uint(w, y->last);
        put(w, y->result, sizeof y->result);
        for (i = 0; i < COINOP_WINDOW; i++) {
            put_u32(w, y->order[i]);
        }
    }
    put_u8(w, (uint8_t)a->gateway);
    put_uint(w, a->number);
    put_uint(w, a->counter);
    put(w, a->order, COINOP_ID);
    put_u8(w, (uint8_t)a->result);
    put_text(w, a->outcome.why, length_of(a->outcome.why));
    put_text(w, a->outcome.reading, a->outcome.reading_size);
}

void duty_load(struct coinop_device *d, struct reader *r) {
    struct coinop_ack *a = &d->ack;
    const uint8_t *b;
    size_t n;
    uint32_t g, i;
    if (take_u8(r) != COINOP_GATEWAYS) {
        r->bad = true; /* another build wrote it */
    }
    for (g = 0; g < COINOP_GATEWAYS; g++) {
        struct coinop_duty *y = &d->duties[g];
        y->last = take_uint(r, UINT64_MAX);
        take_into(r, y->result, sizeof y->result);
        for (i = 0; i < COINOP_WINDOW; i++) {
            y->order[i] = take_u32(r);
        }
    }
    a->gateway = take_u8(r) % COINOP_GATEWAYS;
    a->number = take_uint(r, UINT64_MAX);
    a->counter = take_uint(r, UINT64_MAX);
    take_into(r, a->order, COINOP_ID);
    a->result = (enum coinop_result)take_u8(r);
    b = take_text(r, COINOP_WHY - 1, &n);
    if (b != NULL) {
        memcpy(a->outcome.why, b, n);
    }
    b = take_text(r, COINOP_READING, &n);
    if (b != NULL) {
        memcpy(a->outcome.reading, b, n);
        a->outcome.reading_size = (uint8_t)n;
    }
}
