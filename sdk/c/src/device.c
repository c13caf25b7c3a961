/* The device: its flash, its messages, its time. */
#include "parts.h"

enum {
    TYPE_ONEWAY = 0x81, /* high bytes of message types */
    TYPE_PAYWORD = 0x82,
    TYPE_BUY = 0x8305,
    TYPE_GOODS = 0x8307,
    TYPE_GOT = 0x8309,
    TYPE_DECLINE = 0x830b,
    TYPE_COMMAND = 0x8901,
    TYPE_POLICY = 0x8909,
    TYPE_TIME = 0x890b,
    ASK_FIRST = 15000,   /* milliseconds, without an answer; and to the next question after one */
    ASK_AGAIN = 3600000,
    MAX_GOODS = 32768,   /* bytes */
    MAX_WHY = 200,
    SLOT_HEAD = 8,       /* bytes: the record's number and its checksum */
    BLOB_VERSION = 1,
    RECORD_VERSION = 1
};

/* key_derive is keys.Secret.Derive. */
void key_derive(uint8_t child[32], const uint8_t key[32], const char *purpose, const char *more) {
    struct sha256 s;
    uint8_t i = 0;
    do {
        hmac_start(&s, key);
        sha256_add(&s, "coinop/derive/", 14);
        sha256_add(&s, purpose, length_of(purpose));
        sha256_add(&s, more, length_of(more));
        sha256_add(&s, &i, 1);
        hmac_end(&s, key, child);
        i++;
    } while (!key_valid(child));
}

/* Messages. */

struct writer message_start(struct coinop_device *d, uint16_t type) {
    struct writer w;
    w.b = d->buffer;
    w.n = 0;
    w.room = COINOP_MESSAGE;
    put_u16(&w, type);
    return w;
}

void message_send(struct coinop_device *d, const struct writer *w) {
    if (put_fits(w)) {
        d->port->send(d->port->self, w->b, w->n);
    }
}

void device_tell(struct coinop_device *d, enum coinop_news news, const uint8_t id[COINOP_ID]) {
    d->port->tell(d->port->self, news, id);
}

/* Flash. Record k goes to slot k modulo their number, and has k and a CRC-32 in
 * front; the one with the highest k counts. */

static uint32_t crc32(const uint8_t *b, size_t n) {
    uint32_t crc = UINT32_MAX;
    unsigned i;
    for (; n > 0; n--, b++) {
        crc ^= *b;
        for (i = 0; i < 8; i++) {
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

/* A channel's state goes with its terms' checksum: when a device gets another
 * channel, the old one's state is not taken for its own. */
static void store_channel(struct writer *w, enum coinop_state state, struct coinop_ledger *l, const uint8_t *terms, size_t size) {
    put_u8(w, (uint8_t)state);
    put_u32(w, crc32(terms, size));
    ledger_store(l, w);
}

/* device_save makes the state durable, if it has changed. Nothing is promised or
 * begun before it is true. */
bool device_save(struct coinop_device *d) {
    struct coinop_coins *c = &d->coins;
    struct writer w;
    if (!d->changed || d->broken) {
        return !d->broken;
    }
    w.b = d->buffer;
    w.n = SLOT_HEAD;
    w.room = COINOP_SLOT;
    memset(d->buffer, 0xff, COINOP_SLOT); /* what flash need not write */
    put_u8(&w, RECORD_VERSION);
    put_uint(&w, c->epoch);
    put_uint(&w, c->start);
    put_uint(&w, c->settled);
    put_uint(&w, c->settlements);
    put_uint(&w, c->owed);
    store_channel(&w, c->state, &c->ledger, c->agreed, c->agreed_size);
    store_channel(&w, d->tickets.state, &d->tickets.ledger, d->tickets.funded, d->tickets.funded_size);
    duty_store(d, &w);
    policy_store(d, &w);
    d->record++;
    store32(d->buffer, d->record);
    store32(d->buffer + 4, crc32(d->buffer + SLOT_HEAD, COINOP_SLOT - SLOT_HEAD) ^ d->record);
    if (!put_fits(&w) || !d->port->write(d->port->self, d->record % d->port->slots, d->buffer)) {
        d->broken = true;
        return false;
    }
    d->changed = false;
    return true;
}

/* read_slot reads a record's number, or 0 if there is none in the slot. */
static bool read_slot(struct coinop_device *d, uint32_t slot, uint32_t *record) {
    if (!d->port->read(d->port->self, slot, d->buffer)) {
        return false;
    }
    *record = load32(d->buffer);
    if (*record % d->port->slots != slot || (load32(d->buffer + 4) ^ *record) != crc32(d->buffer + SLOT_HEAD, COINOP_SLOT - SLOT_HEAD)) {
        *record = 0;
    }
    return true;
}

/* load_channel gives false for the state of another channel, and leaves the
 * ledger empty. */
static bool load_channel(struct reader *r, enum coinop_state *state, struct coinop_ledger *l, const uint8_t *terms, size_t size) {
    struct coinop_ledger fresh = *l;
    uint8_t was = take_u8(r);
    uint32_t crc = take_u32(r);
    ledger_load(l, r);
    if (was > COINOP_CLOSING) {
        r->bad = true;
    }
    if (*state == COINOP_NONE || was == COINOP_NONE || crc != crc32(terms, size)) {
        *l = fresh;
        return false;
    }
    *state = (enum coinop_state)was;
    return true;
}

/* load reads a record. Settlements belong to the channel that they pay for, so the
 * channel that pays must not change while one is under way: nobody would know
 * whether it is paid. */
static bool load(struct coinop_device *d) {
    struct coinop_coins *c = &d->coins;
    struct coinop_tickets *t = &d->tickets;
    struct reader r = {d->buffer + SLOT_HEAD, COINOP_SLOT - SLOT_HEAD, false};
    uint8_t version = take_u8(&r);
    bool same_coins, same_tickets;
    c->epoch = take_uint(&r, UINT64_MAX);
    c->start = take_uint(&r, MAX_AMOUNT);
    c->settled = take_uint(&r, MAX_AMOUNT);
    c->settlements = take_uint(&r, UINT64_MAX);
    c->owed = take_uint(&r, UINT32_MAX);
    same_coins = load_channel(&r, &c->state, &c->ledger, c->agreed, c->agreed_size);
    same_tickets = load_channel(&r, &t->state, &t->ledger, t->funded, t->funded_size);
    duty_load(d, &r);
    policy_load(d, &r);
    if (c->owed > 0 && (!same_coins || !same_tickets)) {
        return false;
    }
    if (!same_tickets) {
        policy_other(d, PAYEE_TICKETS);
    }
    if (!same_coins) {
        policy_other(d, PAYEE_COINS);
        c->epoch = c->start = c->settled = c->settlements = 0;
    }
    return !r.bad && version == RECORD_VERSION && c->start <= c->ledger.total && c->ledger.total - c->start <= c->length &&
           c->settled + c->owed <= c->ledger.stamped && t->ledger.total <= t->capacity;
}

/* newest loads the last record that is whole, if there is one. */
static bool newest(struct coinop_device *d) {
    uint32_t slot, record, best = 0;
    for (slot = 0; slot < d->port->slots; slot++) {
        if (!read_slot(d, slot, &record)) {
            return false;
        }
        if (record > best) {
            best = record;
        }
    }
    d->record = best;
    return best == 0 || (read_slot(d, best % d->port->slots, &record) && record == best && load(d));
}

/* The blob: version, name, gateway, index of the ticket channel's key, Funded,
 * Agreed. An empty gateway sends no commands; one of 33 bytes is its node key,
 * one of 32 a secret shared with it. */
static bool read_blob(struct coinop_device *d, const uint8_t *blob, size_t size) {
    enum { MAX_TERMS = 512, KEY = 33 };
    struct reader r = {blob, size, false};
    const uint8_t *funded, *agreed;
    size_t funded_size, agreed_size;
    uint64_t index;
    uint8_t version = take_u8(&r);
    d->name = take_text(&r, COINOP_NAME - 1, &d->name_size);
    d->gateway = take_text(&r, KEY, &d->gateway_size);
    index = take_uint(&r, UINT64_MAX);
    funded = take_text(&r, MAX_TERMS, &funded_size);
    agreed = take_text(&r, MAX_TERMS, &agreed_size);
    return take_end(&r) && version == BLOB_VERSION && (d->gateway_size == 0 || d->gateway_size >= KEY - 1) &&
           (COINOP_VERIFY || d->gateway_size != KEY) && (funded_size == 0 || tickets_terms(d, index, funded, funded_size)) &&
           (agreed_size == 0 || coins_terms(d, agreed, agreed_size));
}

bool coinop_start(struct coinop_device *d, const struct coinop_port *port, const uint8_t key[32], const uint8_t *blob, size_t size) {
    memset(d, 0, sizeof *d);
    d->port = port;
    memcpy(d->key, key, sizeof d->key);
    if (port->slots < 2 || !key_valid(key)) {
        return false;
    }
    key_public(d->pub, key);
    if (!read_blob(d, blob, size) || !newest(d)) {
        return false;
    }
    if (d->coins.state != COINOP_NONE) {
        coins_load(d);
    }
    duty_recover(d);
    return !d->broken;
}

void coinop_linked(struct coinop_device *d) {
    duty_linked(d);
    tickets_send(d, true);
    coins_send(d, true);
}

/* delivered hands on what the seller says of an order. Once the program has heard
 * of the goods, the seller may forget them. */
static void delivered(struct coinop_device *d, uint16_t type, struct reader *r) {
    const uint8_t *order = take(r, COINOP_ID);
    if (type == TYPE_DECLINE) {
        take_uint(r, MAX_AMOUNT);
    }
    d->goods = take_text(r, type == TYPE_GOODS ? MAX_GOODS : MAX_WHY, &d->goods_size);
    if (!take_end(r)) {
        return;
    }
    device_tell(d, type == TYPE_GOODS ? COINOP_GOODS : COINOP_DECLINED, order);
    if (type == TYPE_GOODS) {
        struct writer w = message_start(d, TYPE_GOT);
        put(&w, order, COINOP_ID);
        message_send(d, &w);
    }
}

/* hear_time takes the gateway's time (fleet.Time), which is as good as the link. So
 * it is not taken if the program has told it, and once it is known the gateway's
 * corrects it no faster than the device's own clock may be wrong: by a sixteenth. */
static void hear_time(struct coinop_device *d, struct reader *r) {
    uint64_t at = take_uint(r, MAX_TIME), mine = device_time(d);
    uint64_t off = at > mine ? at - mine : mine - at;
    if (!take_end(r) || at == 0 || d->own_clock || (mine != 0 && off > (d->now - d->clocked) / 16)) {
        return;
    }
    d->unix_ahead = at - d->now;
    d->clocked = d->now;
}

void coinop_receive(struct coinop_device *d, const uint8_t *message, size_t size) {
    struct reader r = {message, size, false};
    uint16_t type = take_u16(&r);
    if (type >> 8 == TYPE_PAYWORD) {
        coins_receive(d, type, &r);
    } else if (type >> 8 == TYPE_ONEWAY) {
        tickets_receive(d, type, &r);
    } else if (type == TYPE_GOODS || type == TYPE_DECLINE) {
        delivered(d, type, &r);
    } else if (type == TYPE_COMMAND) {
        duty_receive(d, &r);
    } else if (type == TYPE_POLICY) {
        policy_receive(d, &r);
    } else if (type == TYPE_TIME) {
        hear_time(d, &r);
    }
}

/* waits tells whether something of a channel should be sent again. */
static bool waits(const struct coinop_device *d, enum coinop_state state, const struct coinop_ledger *l) {
    return (state == COINOP_OPENING || ledger_pending(l) > 0) && d->now - l->sent >= COINOP_RESEND;
}

void coinop_tick(struct coinop_device *d, uint32_t now) {
    if (d->unix_ahead != 0 && now < d->now) {
        d->unix_ahead += UINT64_C(1) << 32; /* the milliseconds have wrapped */
    }
    d->now = now;
    if (waits(d, d->tickets.state, &d->tickets.ledger)) {
        tickets_send(d, true);
    }
    if (waits(d, d->coins.state, &d->coins.ledger)) {
        coins_send(d, true);
    }
    coins_settle(d, d->coins.every);
    if (d->gateway_size != 0 && !d->own_clock && now - d->asked >= (d->unix_ahead == 0 ? ASK_FIRST : ASK_AGAIN)) {
        duty_status(d);
    }
}

uint64_t device_time(const struct coinop_device *d) { return d->unix_ahead == 0 ? 0 : d->unix_ahead + d->now; }

void coinop_clock(struct coinop_device *d, uint64_t unix_ms) {
    if (unix_ms <= MAX_TIME) {
        d->unix_ahead = unix_ms - d->now;
        d->own_clock = true;
    }
}

void coinop_buy(struct coinop_device *d, const uint8_t order[COINOP_ID], const char *item, uint64_t units) {
    struct writer w = message_start(d, TYPE_BUY);
    put(&w, order, COINOP_ID);
    put_text(&w, item, length_of(item));
    put_uint(&w, units);
    message_send(d, &w);
}
