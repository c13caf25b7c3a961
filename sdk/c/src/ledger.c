/* What a channel has promised, and what of it the payee has stamped (package
 * receipt). Each ticket here is for one order. */
#include "parts.h"

struct coinop_entry *ledger_at(struct coinop_ledger *l, uint64_t seq) {
    return &l->entries[(uint32_t)seq % COINOP_ORDERS];
}

uint32_t ledger_pending(const struct coinop_ledger *l) { return (uint32_t)(l->seq - l->acked); }

static uint32_t kept(const struct coinop_ledger *l) {
    return l->seq < COINOP_ORDERS ? (uint32_t)l->seq : COINOP_ORDERS;
}

enum known ledger_find(struct coinop_ledger *l, const uint8_t order[COINOP_ID]) {
    uint32_t i;
    for (i = 0; i < kept(l); i++) {
        uint64_t seq = l->seq - i;
        if (memcmp(ledger_at(l, seq)->order, order, COINOP_ID) == 0) {
            return seq > l->acked ? PENDING : STAMPED;
        }
    }
    return UNKNOWN;
}

/* The caller has seen that there is room: fewer than COINOP_ORDERS pending. */
void ledger_promise(struct coinop_ledger *l, const uint8_t order[COINOP_ID], uint64_t amount) {
    struct coinop_entry *e;
    l->seq++;
    l->total += amount;
    e = ledger_at(l, l->seq);
    memcpy(e->order, order, COINOP_ID);
    e->amount = amount;
}

/* ledger_run writes the pending tickets, or the last of them, as a receipt.Run. */
void ledger_run(struct coinop_ledger *l, struct writer *w, bool all) {
    uint64_t base = all ? l->acked : l->seq - 1, seq;
    put_uint(w, base);
    put_uint(w, base - l->acked);
    put_uint(w, l->seq - base);
    for (seq = base; seq < l->seq; seq++) {
        put_uint(w, 1);
    }
    put_uint(w, l->seq - base);
    for (seq = base + 1; seq <= l->seq; seq++) {
        struct coinop_entry *e = ledger_at(l, seq);
        put(w, e->order, COINOP_ID);
        put_uint(w, e->amount * l->unit);
    }
}

#if COINOP_STAMPS
static void node(uint8_t sum[32], uint8_t mark, const uint8_t *a, size_t n, const uint8_t *b, size_t m) {
    struct sha256 s;
    sha256_start(&s);
    sha256_add(&s, &mark, 1);
    sha256_add(&s, a, n);
    sha256_add(&s, b, m);
    sha256_end(&s, sum);
}

/* root is the hash over the orders of tickets from+1 to to (receipt.Tree): an
 * odd last node moves up unchanged, and the crown has their number. */
static void root(struct coinop_ledger *l, uint64_t from, uint64_t to, uint8_t sum[32]) {
    uint8_t level[COINOP_ORDERS][32], number[8];
    uint32_t n = (uint32_t)(to - from), width, i;
    for (i = 0; i < n; i++) {
        struct coinop_entry *e = ledger_at(l, from + 1 + i);
        store64(number, e->amount * l->unit);
        node(level[i], 0, e->order, COINOP_ID, number, sizeof number);
    }
    for (width = n; width > 1; width = (width + 1) / 2) {
        for (i = 0; 2 * i + 1 < width; i++) {
            node(level[i], 1, level[2 * i], 32, level[2 * i + 1], 32);
        }
        if (width % 2 == 1) {
            memcpy(level[i], level[width - 1], 32);
        }
    }
    store64(number, n);
    node(sum, 2, number, sizeof number, level[0], 32);
}

static bool stamped(struct coinop_ledger *l, const uint8_t channel[COINOP_ID], uint64_t to, uint64_t total, const uint8_t *sig) {
    static const char tag[] = "coinop/receipt/stamp";
    uint8_t message[sizeof tag - 1 + COINOP_ID + 3 * 8 + 32], *m = message;
    memcpy(m, tag, sizeof tag - 1);
    m += sizeof tag - 1;
    memcpy(m, channel, COINOP_ID);
    m += COINOP_ID;
    store64(m, l->acked);
    store64(m + 8, to);
    store64(m + 16, total);
    root(l, l->acked, to, m + 24);
    return ed25519_verify(l->stamp_key, message, sizeof message, sig);
}
#endif

/* ledger_taken reads a receipt.Stamped, and if it is for the oldest pending
 * tickets takes them as stamped. A stamp that comes before its turn is left: the
 * payee gives it again. Without COINOP_STAMPS its signature is not checked: who
 * owns the link could make the device believe an order paid that is not, but not
 * make it pay more. */
bool ledger_taken(struct coinop_ledger *l, const uint8_t channel[COINOP_ID], struct reader *r, uint64_t *from) {
    uint64_t first = take_uint(r, UINT64_MAX), to = take_uint(r, UINT64_MAX), msat = take_uint(r, MAX_AMOUNT), seq, total;
    const uint8_t *sig = take(r, 64);
    if (!take_end(r) || first != l->acked || to <= first || to > l->seq) {
        return false;
    }
    total = l->stamped;
    for (seq = first + 1; seq <= to; seq++) {
        total += ledger_at(l, seq)->amount;
    }
    if (total * l->unit != msat) {
        return false;
    }
#if COINOP_STAMPS
    if (!stamped(l, channel, to, msat, sig)) {
        return false;
    }
#else
    (void)channel;
    (void)sig;
#endif
    *from = first;
    l->acked = to;
    l->stamped = total;
    return true;
}

void ledger_store(struct coinop_ledger *l, struct writer *w) {
    uint32_t i;
    put_uint(w, l->seq);
    put_uint(w, l->acked);
    put_uint(w, l->total);
    put_uint(w, l->stamped);
    for (i = kept(l); i > 0; i--) {
        struct coinop_entry *e = ledger_at(l, l->seq - (i - 1));
        put(w, e->order, COINOP_ID);
        put_uint(w, e->amount);
    }
}

void ledger_load(struct coinop_ledger *l, struct reader *r) {
    uint32_t i;
    l->seq = take_uint(r, UINT64_MAX);
    l->acked = take_uint(r, l->seq);
    l->total = take_uint(r, MAX_AMOUNT);
    l->stamped = take_uint(r, l->total);
    if (l->seq - l->acked > COINOP_ORDERS) {
        r->bad = true; /* a build with more room wrote it */
    }
    for (i = kept(l); i > 0; i--) {
        struct coinop_entry *e = ledger_at(l, l->seq - (i - 1));
        take_into(r, e->order, COINOP_ID);
        e->amount = take_uint(r, MAX_AMOUNT);
    }
}
