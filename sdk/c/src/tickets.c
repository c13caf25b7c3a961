/* The paying end of a one-way channel (package oneway). A ticket is the device's
 * signature over the Bitcoin transaction that closes the channel at the total. */
#include "parts.h"

enum {
    TYPE_REJECT = 0x8105,
    TYPE_READY = 0x8109,
    TYPE_TICKET = 0x810b,
    TYPE_TAKEN = 0x810d,
    TYPE_OFFER = 0x810f,
    TYPE_LEAVE = 0x8111
};

enum {
    MSAT = 1000,          /* in a satoshi */
    CLOSING_VSIZE = 184,  /* virtual bytes */
    DUST = 294,           /* satoshi; nodes do not relay a smaller P2WPKH output */
    P2WPKH = 22,          /* bytes of such a script */
    MAX_FEE_RATE = 1000000 /* satoshi for 1,000 virtual bytes */
};

static const uint8_t *channel(const struct coinop_device *d) { return d->tickets.funded + 2; }

static uint64_t fee_of(const struct coinop_tickets *t) {
    return ((uint64_t)t->fee_rate * CLOSING_VSIZE + 999) / 1000;
}

static const uint8_t *take_script(struct reader *r) {
    size_t n;
    const uint8_t *b = take_text(r, P2WPKH, &n);
    if (b == NULL || n != P2WPKH || b[0] != 0 || b[1] != 20) {
        r->bad = true;
    }
    return b;
}

/* tickets_terms reads the terms out of the message Funded. */
bool tickets_terms(struct coinop_device *d, uint64_t index, const uint8_t *funded, size_t size) {
    struct coinop_tickets *t = &d->tickets;
    struct reader r = {funded, size, false};
    struct sha256 s;
    uint8_t id[32], pub[33];
    char number[21];
    take(&r, 2 + COINOP_ID);
    take(&r, 33); /* the node key, which tells nothing here */
    t->payer_key = take(&r, 33);
    t->capacity = take_uint(&r, MAX_AMOUNT);
    t->expiry = (uint32_t)take_uint(&r, 499999999);
    t->fee_rate = (uint32_t)take_uint(&r, MAX_FEE_RATE);
    t->payer_script = take_script(&r);
    t->payee_key = take(&r, 33);
    t->payee_script = take_script(&r);
    take_uint(&r, INT32_MAX); /* the depth that the payee waits for */
    t->node = take(&r, 33);
    t->ledger.stamp_key = take(&r, 32);
    take(&r, 64);
    t->point = take(&r, 32);
    t->point_index = (uint32_t)take_uint(&r, UINT16_MAX);
    if (!take_end(&r) || t->capacity < (fee_of(t) + DUST) * MSAT || t->capacity % MSAT != 0) {
        return false;
    }
    t->funded = funded;
    t->funded_size = size;
    t->ledger.unit = 1;
    t->state = COINOP_OPENING;
    sha256_tagged(&s, "coinop/oneway/id");
    sha256_add(&s, t->payer_key, 33);
    sha256_add(&s, t->node, 33);
    sha256_end(&s, id);
    key_derive(t->key, d->key, "oneway/payer/", decimal(index, number));
    key_public(pub, t->key);
    return memcmp(id, channel(d), COINOP_ID) == 0 && memcmp(pub, t->payer_key, sizeof pub) == 0;
}

static void add_little(struct sha256 *s, uint64_t v, unsigned bytes) {
    uint8_t b[8];
    unsigned i;
    for (i = 0; i < bytes; i++, v >>= 8) {
        b[i] = (uint8_t)v;
    }
    sha256_add(s, b, bytes);
}

static void add_op(struct sha256 *s, uint8_t op) { sha256_add(s, &op, 1); }

static void add_key(struct sha256 *s, const uint8_t *key) {
    add_op(s, 33);
    sha256_add(s, key, 33);
}

/* end_twice is Bitcoin's hash: SHA-256 of SHA-256. */
static void end_twice(struct sha256 *s, uint8_t sum[32]) {
    sha256_end(s, sum);
    sha256_start(s);
    sha256_add(s, sum, 32);
    sha256_end(s, sum);
}

/* add_script adds the witness script of the funding output, behind its length:
 *
 *	IF 2 <payer> <payee> 2 CHECKMULTISIG
 *	ELSE <expiry> CHECKLOCKTIMEVERIFY DROP <payer> CHECKSIG ENDIF
 */
static void add_script(struct sha256 *s, const struct coinop_tickets *t) {
    enum { IF = 0x63, ELSE = 0x67, ENDIF = 0x68, DROP = 0x75, CHECKSIG = 0xac, CHECKMULTISIG = 0xae, CLTV = 0xb1, NUMBER = 0x50 };
    uint8_t push = 0; /* bytes of the expiry, with room for a sign bit */
    if (t->expiry > 16) {
        for (push = 1; t->expiry >> (8 * push - 1) != 0; push++) {
        }
    }
    add_op(s, (uint8_t)(112 + push)); /* 79 bytes before the expiry, its push, 33 after */
    add_op(s, IF);
    add_op(s, NUMBER + 2);
    add_key(s, t->payer_key);
    add_key(s, t->payee_key);
    add_op(s, NUMBER + 2);
    add_op(s, CHECKMULTISIG);
    add_op(s, ELSE);
    if (push == 0) {
        add_op(s, (uint8_t)(NUMBER + t->expiry));
    } else {
        add_op(s, push);
        add_little(s, t->expiry, push);
    }
    add_op(s, CLTV);
    add_op(s, DROP);
    add_key(s, t->payer_key);
    add_op(s, CHECKSIG);
    add_op(s, ENDIF);
}

static void add_output(struct sha256 *s, uint64_t sats, const uint8_t *script) {
    if (sats >= DUST) {
        add_little(s, sats, 8);
        add_op(s, P2WPKH);
        sha256_add(s, script, P2WPKH);
    }
}

/* sighash is what closes the channel at a total with a fee: the digest of BIP 143
 * for the one input, SIGHASH_ALL. The fee comes out of the payer's part first, and
 * so does what is less than a satoshi; an output that would be dust goes to the
 * fee. False: there would be no output. */
static bool sighash(const struct coinop_tickets *t, uint64_t total, uint64_t fee, uint8_t digest[32]) {
    uint64_t capacity = t->capacity / MSAT, paid = total / MSAT, change = 0;
    uint8_t prevouts[32], sequences[32], outputs[32];
    struct sha256 s;
    if (capacity < paid + fee) {
        paid = capacity < fee ? 0 : capacity - fee;
    } else {
        change = capacity - paid - fee;
    }
    if (paid < DUST && change < DUST) {
        return false;
    }
    sha256_start(&s);
    sha256_add(&s, t->point, 32);
    add_little(&s, t->point_index, 4);
    end_twice(&s, prevouts);
    sha256_start(&s);
    add_little(&s, UINT32_MAX, 4);
    end_twice(&s, sequences);
    sha256_start(&s);
    add_output(&s, paid, t->payee_script);
    add_output(&s, change, t->payer_script);
    end_twice(&s, outputs);
    sha256_start(&s);
    add_little(&s, 2, 4); /* version */
    sha256_add(&s, prevouts, 32);
    sha256_add(&s, sequences, 32);
    sha256_add(&s, t->point, 32);
    add_little(&s, t->point_index, 4);
    add_script(&s, t);
    add_little(&s, capacity, 8);
    add_little(&s, UINT32_MAX, 4);
    sha256_add(&s, outputs, 32);
    add_little(&s, 0, 4); /* lock time */
    add_little(&s, 1, 4); /* SIGHASH_ALL */
    end_twice(&s, digest);
    return true;
}

/* put_signature signs a closing, or says nothing if there is nothing to close:
 * below dust the payee has nothing to claim yet. */
static void put_signature(const struct coinop_tickets *t, struct writer *w, uint64_t total, uint64_t fee) {
    uint8_t digest[32], sig[64] = {0};
    if (sighash(t, total, fee, digest)) {
        ecdsa_sign(sig, t->key, digest);
    }
    put(w, sig, sizeof sig);
}

/* tickets_promise pays an order, or settles coins: those were allowed and counted
 * when they were promised. */
enum coinop_answer tickets_promise(struct coinop_device *d, const uint8_t order[COINOP_ID], uint64_t msat, bool settles) {
    struct coinop_tickets *t = &d->tickets;
    if (d->broken) {
        return COINOP_BROKEN;
    }
    if (t->state == COINOP_OPENING || ledger_pending(&t->ledger) == COINOP_ORDERS) {
        return COINOP_WAIT;
    }
    if (t->state != COINOP_OPEN || msat == 0 || msat > t->capacity - fee_of(t) * MSAT - t->ledger.total) {
        return COINOP_REFUSED;
    }
    if (!settles) {
        if (!policy_allows(d, PAYEE_TICKETS, msat)) {
            return COINOP_FORBIDDEN;
        }
        policy_count(d, msat);
    }
    ledger_promise(&t->ledger, order, msat);
    d->changed = true;
    if (!device_save(d)) {
        return COINOP_BROKEN;
    }
    tickets_send(d, ledger_pending(&t->ledger) == 1);
    return COINOP_PROMISED;
}

enum coinop_answer coinop_pay_msat(struct coinop_device *d, const uint8_t order[COINOP_ID], uint64_t msat) {
    switch (ledger_find(&d->tickets.ledger, order)) {
    case PENDING:
        return COINOP_PROMISED;
    case STAMPED:
        return COINOP_DONE;
    default:
        return tickets_promise(d, order, msat, false);
    }
}

/* offer lets the payee close at what it has stamped, once nothing is pending. */
static void offer(struct coinop_device *d) {
    struct coinop_tickets *t = &d->tickets;
    uint64_t change = (t->capacity - t->ledger.stamped) / MSAT, fee = fee_of(t);
    struct writer w = message_start(d, TYPE_OFFER);
    if (fee > change) {
        fee = change;
    }
    put(&w, channel(d), COINOP_ID);
    put_uint(&w, t->ledger.stamped);
    put_uint(&w, fee);
    put_signature(t, &w, t->ledger.stamped, fee);
    message_send(d, &w);
}

/* tickets_send signs the total, for the newest order or all that have no stamp. */
void tickets_send(struct coinop_device *d, bool all) {
    struct coinop_tickets *t = &d->tickets;
    struct writer w;
    if (t->state == COINOP_NONE) {
        return;
    }
    if (all) {
        t->ledger.sent = d->now;
    }
    if (t->state == COINOP_OPENING) {
        d->port->send(d->port->self, t->funded, t->funded_size);
        return;
    }
    if (!device_save(d)) {
        return; /* as coins_send */
    }
    if (ledger_pending(&t->ledger) == 0) {
        if (t->state == COINOP_CLOSING) {
            offer(d);
        }
        return;
    }
    w = message_start(d, TYPE_TICKET);
    put(&w, channel(d), COINOP_ID);
    put_uint(&w, t->ledger.total);
    ledger_run(&t->ledger, &w, all);
    put_signature(t, &w, t->ledger.total, fee_of(t));
    message_send(d, &w);
}

static void taken(struct coinop_device *d, struct reader *r) {
    struct coinop_ledger *l = &d->tickets.ledger;
    uint64_t seq;
    if (!ledger_taken(l, channel(d), r, &seq)) {
        return;
    }
    d->changed = true;
    for (seq++; seq <= l->acked; seq++) {
        uint8_t order[COINOP_ID];
        bool settles;
        memcpy(order, ledger_at(l, seq)->order, sizeof order);
        settles = coins_settlement(d, order);
        if (settles) {
            coins_settled(d);
        }
        device_tell(d, settles ? COINOP_SETTLED : COINOP_PAID, order);
    }
    coins_settle(d, d->coins.every);
    if (d->tickets.state == COINOP_CLOSING) {
        tickets_send(d, true);
    }
}

void tickets_receive(struct coinop_device *d, uint16_t type, struct reader *r) {
    struct coinop_tickets *t = &d->tickets;
    const uint8_t *id = take(r, COINOP_ID);
    if (t->state == COINOP_NONE || id == NULL || memcmp(id, channel(d), COINOP_ID) != 0) {
        return;
    }
    if (type == TYPE_TAKEN) {
        taken(d, r);
    } else if (type == TYPE_READY && take_end(r) && t->state == COINOP_OPENING) {
        t->state = COINOP_OPEN;
        d->changed = true;
        device_tell(d, COINOP_OPENED, channel(d));
    } else if (type == TYPE_LEAVE && take_end(r) && t->state != COINOP_OPENING) {
        t->state = COINOP_CLOSING;
        d->changed = true;
        tickets_send(d, true);
    } else if (type == TYPE_REJECT && t->state == COINOP_OPENING) {
        device_tell(d, COINOP_REJECTED, channel(d));
    }
}
