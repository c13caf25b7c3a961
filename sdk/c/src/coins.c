/* The paying end of a meter of hash-chain coins (package payword). Each coin is
 * one more word of a chain; every so many of them are settled with a ticket. */
#include "parts.h"

enum { TYPE_READY = 0x8209, TYPE_COINS = 0x820b, TYPE_TAKEN = 0x820d, TYPE_REJECT = 0x8205 };

enum { MAX_GAP = 1 << 18, MAX_NAME = 128 };

static const uint8_t *channel(const struct coinop_device *d) { return d->coins.agreed + 2; }

/* seed is the last word of an epoch's chain (payword.Seed). */
static void seed(const struct coinop_device *d, uint64_t epoch, uint8_t w[32]) {
    struct sha256 s;
    uint8_t number[8];
    key_derive(w, d->key, "payword/chain", "");
    store64(number, epoch);
    sha256_tagged(&s, "coinop/payword/seed");
    sha256_add(&s, w, 32);
    sha256_add(&s, channel(d), COINOP_ID);
    sha256_add(&s, number, sizeof number);
    sha256_end(&s, w);
}

static void start_chain(const struct coinop_device *d, struct coinop_chain *c, uint64_t epoch) {
    uint8_t w[32];
    seed(d, epoch, w);
    chain_start(c, w, d->coins.length);
    wipe(w, sizeof w);
}

/* coins_terms reads the terms out of the message Agreed, and checks that they are
 * this device's and keep to payword's limits and to this build's. */
bool coins_terms(struct coinop_device *d, const uint8_t *agreed, size_t size) {
    struct coinop_coins *c = &d->coins;
    struct reader r = {agreed, size, false};
    struct sha256 s;
    const uint8_t *payer;
    uint8_t id[32], number[8];
    uint64_t n, coin;
    size_t name;
    take(&r, 2 + COINOP_ID);
    payer = take(&r, 33);
    n = take_uint(&r, UINT64_MAX);
    coin = take_uint(&r, MAX_AMOUNT);
    c->length = (uint32_t)take_uint(&r, 1u << COINOP_LEVELS);
    c->every = (uint32_t)take_uint(&r, MAX_GAP / 2);
    c->credit = (uint32_t)take_uint(&r, MAX_GAP);
    take_text(&r, MAX_NAME, &name);
    c->node = take(&r, 33);
    c->ledger.stamp_key = take(&r, 32);
    take(&r, 64); /* the node key's word on the stamp key: whoever made the blob has checked it */
    if (!take_end(&r) || c->length < 2 || (c->length & (c->length - 1)) != 0 || coin == 0 || c->every == 0 ||
        c->every > c->credit / 2 || coin > MAX_AMOUNT / c->credit) {
        return false;
    }
    c->agreed = agreed;
    c->agreed_size = size;
    c->ledger.unit = coin;
    c->state = COINOP_OPENING;
    store64(number, n);
    sha256_tagged(&s, "coinop/payword/id");
    sha256_add(&s, payer, 33);
    sha256_add(&s, c->node, 33);
    sha256_add(&s, number, sizeof number);
    sha256_end(&s, id);
    return memcmp(id, channel(d), COINOP_ID) == 0 && memcmp(d->pub, payer, sizeof d->pub) == 0;
}

/* commit signs the root of the chain (payword.Commitment). */
static void commit(struct coinop_device *d) {
    struct coinop_coins *c = &d->coins;
    struct sha256 s;
    uint8_t digest[32], numbers[16];
    sha256_tagged(&s, "coinop/payword/terms");
    sha256_add(&s, c->agreed + 2 + COINOP_ID, c->agreed_size - 2 - COINOP_ID);
    sha256_end(&s, digest);
    store64(numbers, c->epoch);
    store64(numbers + 8, c->start);
    sha256_tagged(&s, "coinop/payword/commitment");
    sha256_add(&s, digest, sizeof digest);
    sha256_add(&s, numbers, sizeof numbers);
    sha256_add(&s, c->root, sizeof c->root);
    sha256_end(&s, digest);
    ecdsa_sign(c->sig, d->key, digest);
}

/* next_chain commits to the coming epoch, from the total on. */
static void next_chain(struct coinop_device *d, uint64_t total) {
    struct coinop_coins *c = &d->coins;
    chain_lay(&c->next, 0);
    c->chain = c->next;
    c->epoch++;
    c->start = total;
    memcpy(c->root, c->chain.word, sizeof c->root);
    commit(d);
    start_chain(d, &c->next, c->epoch + 1);
}

static uint32_t left(const struct coinop_chain *c) { return c->length - c->index; }

/* coins_load lays the chains out as they were. What follows from the key is not
 * in flash: the root is hashed and the commitment signed again, to the bit. */
void coins_load(struct coinop_device *d) {
    struct coinop_coins *c = &d->coins;
    uint64_t index = c->ledger.total - c->start;
    if (c->epoch == 0) {
        start_chain(d, &c->next, 1);
        next_chain(d, 0);
        return;
    }
    start_chain(d, &c->chain, c->epoch);
    chain_lay(&c->chain, 0);
    memcpy(c->root, c->chain.word, sizeof c->root);
    commit(d);
    if (index > 0) {
        chain_move(&c->chain, (uint32_t)index);
    }
    start_chain(d, &c->next, c->epoch + 1);
    chain_lay(&c->next, left(&c->chain));
}

/* settlement is the order that settles this channel next (payword.SettlementID). */
static void settlement(const struct coinop_device *d, uint8_t id[32]) {
    struct sha256 s;
    uint8_t number[8];
    store64(number, d->coins.settlements + 1);
    sha256_tagged(&s, "coinop/payword/settle");
    sha256_add(&s, channel(d), COINOP_ID);
    sha256_add(&s, number, sizeof number);
    sha256_end(&s, id);
}

bool coins_settlement(struct coinop_device *d, const uint8_t order[COINOP_ID]) {
    uint8_t id[32];
    if (d->coins.owed == 0) {
        return false;
    }
    settlement(d, id);
    return memcmp(id, order, COINOP_ID) == 0;
}

/* coins_settle promises a ticket for stamped coins, once there are so many: one
 * settlement at a time, of `every` coins at most. If the ticket must wait, so does
 * this. */
void coins_settle(struct coinop_device *d, uint64_t least) {
    struct coinop_coins *c = &d->coins;
    uint64_t unsettled = c->ledger.stamped - c->settled;
    uint8_t id[32];
    if (c->owed != 0 || c->state != COINOP_OPEN || unsettled < least) {
        return;
    }
    settlement(d, id);
    c->owed = unsettled < c->every ? unsettled : c->every;
    if (tickets_promise(d, id, c->owed * c->ledger.unit, true) != COINOP_PROMISED) {
        c->owed = 0;
    }
}

/* coins_settled hears that the ticket was taken. */
void coins_settled(struct coinop_device *d) {
    d->coins.settled += d->coins.owed;
    d->coins.settlements++;
    d->coins.owed = 0;
    d->changed = true;
}

static enum coinop_answer promise(struct coinop_device *d, const uint8_t order[COINOP_ID], uint32_t coins) {
    struct coinop_coins *c = &d->coins;
    uint64_t total = c->ledger.total + coins;
    if (d->broken) {
        return COINOP_BROKEN;
    }
    if (c->state == COINOP_OPENING) {
        return COINOP_WAIT;
    }
    if (c->state != COINOP_OPEN || coins == 0 || coins > c->credit || total * c->ledger.unit > MAX_AMOUNT) {
        return COINOP_REFUSED;
    }
    if (ledger_pending(&c->ledger) == COINOP_ORDERS) {
        return COINOP_WAIT;
    }
    if (total > c->settled + c->credit) {
        return d->tickets.state == COINOP_OPEN || c->owed > 0 ? COINOP_WAIT : COINOP_REFUSED;
    }
    if (!policy_allows(d, PAYEE_COINS, coins * c->ledger.unit)) {
        return COINOP_FORBIDDEN;
    }
    if (coins <= left(&c->chain)) {
        chain_move(&c->chain, c->chain.index + coins);
        chain_lay(&c->next, left(&c->chain));
    } else {
        next_chain(d, total); /* the words that are left of the old one are not needed */
    }
    ledger_promise(&c->ledger, order, coins);
    policy_count(d, coins * c->ledger.unit);
    d->changed = true;
    if (!device_save(d)) {
        return COINOP_BROKEN;
    }
    coins_send(d, ledger_pending(&c->ledger) == 1);
    return COINOP_PROMISED;
}

enum coinop_answer coinop_pay(struct coinop_device *d, const uint8_t order[COINOP_ID], uint32_t coins) {
    switch (ledger_find(&d->coins.ledger, order)) {
    case PENDING:
        return COINOP_PROMISED;
    case STAMPED:
        return COINOP_DONE;
    default:
        return promise(d, order, coins);
    }
}

enum coinop_answer coinop_meter(struct coinop_device *d, const uint8_t session[COINOP_ID], uint32_t coins) {
    return promise(d, session, coins);
}

void coinop_settle(struct coinop_device *d) { coins_settle(d, 1); }

/* coins_send shows the last word for the newest order, or for all that have no
 * stamp. The flash must say by then which stamps the device has, because the
 * payee forgets those that the message says it has. */
void coins_send(struct coinop_device *d, bool all) {
    struct coinop_coins *c = &d->coins;
    struct writer w;
    if (c->state == COINOP_OPENING) {
        c->ledger.sent = d->now;
        d->port->send(d->port->self, c->agreed, c->agreed_size);
        return;
    }
    if (c->state == COINOP_NONE || ledger_pending(&c->ledger) == 0 || !device_save(d)) {
        return;
    }
    if (all) {
        c->ledger.sent = d->now;
    }
    w = message_start(d, TYPE_COINS);
    put(&w, channel(d), COINOP_ID);
    put_uint(&w, c->epoch);
    put_uint(&w, c->chain.index);
    put(&w, c->chain.word, 32);
    if (all || c->ledger.stamped < c->start || c->ledger.acked == 0) {
        put_u8(&w, 1);
        put_uint(&w, c->epoch);
        put_uint(&w, c->start);
        put(&w, c->root, sizeof c->root);
        put(&w, c->sig, sizeof c->sig);
    } else {
        put_u8(&w, 0);
    }
    ledger_run(&c->ledger, &w, all);
    message_send(d, &w);
}

static void taken(struct coinop_device *d, struct reader *r) {
    struct coinop_ledger *l = &d->coins.ledger;
    uint64_t seq;
    if (!ledger_taken(l, channel(d), r, &seq)) {
        return;
    }
    l->sent = d->now;
    d->changed = true;
    coins_settle(d, d->coins.every);
    for (seq++; seq <= l->acked; seq++) {
        device_tell(d, COINOP_PAID, ledger_at(l, seq)->order);
    }
}

void coins_receive(struct coinop_device *d, uint16_t type, struct reader *r) {
    struct coinop_coins *c = &d->coins;
    const uint8_t *id = take(r, COINOP_ID);
    if (c->state == COINOP_NONE || id == NULL || memcmp(id, channel(d), COINOP_ID) != 0) {
        return;
    }
    if (type == TYPE_TAKEN) {
        taken(d, r);
    } else if (type == TYPE_READY && take_end(r) && c->state == COINOP_OPENING) {
        c->state = COINOP_OPEN;
        d->changed = true;
        device_tell(d, COINOP_OPENED, channel(d));
    } else if (type == TYPE_REJECT && c->state == COINOP_OPENING) {
        device_tell(d, COINOP_REJECTED, channel(d));
    }
}
