/* What the owner allows the device to pay (fleet.Policy), and what it has paid
 * under it. The policy with the highest version counts; before the first, only
 * the channels' own limits do. */
#include "parts.h"

enum { NEVER, DAILY, WEEKLY, MONTHLY, YEARLY }; /* when a budget renews */

enum {
    MAX_PAYEES = 16,
    MAX_TO = 512, /* bytes of a payee */
    MAX_PERIOD = 64,
    MAX_PER_MINUTE = 1000000,
    MINUTE = 60000,
    DAY = 86400000,
    KEY = 33
};

/* Periods. */

static bool is(const uint8_t *text, size_t n, const char *word) {
    size_t i;
    for (i = 0; i < n && word[i] != 0 && (text[i] | 0x20) == (uint8_t)word[i]; i++) {
    }
    return i == n && word[i] == 0;
}

/* period_of reads a spend.Period. This device knows those of the calendar; under
 * another one it spends less than it may: what never renews. */
static uint8_t period_of(const uint8_t *text, size_t n) {
    static const char *const words[] = {"daily", "weekly", "monthly", "yearly"};
    uint8_t i;
    for (i = 0; i < 4; i++) {
        if (is(text, n, words[i])) {
            return (uint8_t)(DAILY + i);
        }
    }
    return NEVER;
}

/* begin is the first day of the period that a day is in, from 1970-01-01. */
static uint32_t begin(uint8_t period, uint32_t day) {
    static const uint8_t months[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    uint32_t first = 0, year = 1970, month, days, leap;
    if (period == DAILY) {
        return day;
    }
    if (period == WEEKLY) {
        return day - (day + 3) % 7; /* the first day was a Thursday */
    }
    for (;; year++, first += 365 + leap) {
        leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        if (day - first < 365 + leap) {
            break;
        }
    }
    if (period == YEARLY) {
        return first;
    }
    for (month = 0;; month++, first += days) {
        days = months[month] + (month == 1 ? leap : 0);
        if (day - first < days) {
            return first;
        }
    }
}

/* renew begins the period and the minute that have come. A clock that goes back
 * renews nothing, nor does one that is not set; minutes are by the device's own,
 * from its first payment on. */
static void renew(struct coinop_device *d) {
    struct coinop_policy *p = &d->policy;
    uint64_t now = device_time(d);
    if (!p->counting) {
        p->counting = true;
        p->minute = d->now;
    } else if (d->now - p->minute >= MINUTE) {
        p->minute = d->now;
        p->count = 0;
    }
    if (p->period != NEVER && now != 0) {
        uint32_t first = begin(p->period, (uint32_t)(now / DAY));
        if (first > p->since) {
            p->since = first;
            p->spent = 0;
        }
    }
}

bool policy_allows(struct coinop_device *d, enum payee who, uint64_t msat) {
    struct coinop_policy *p = &d->policy;
    uint64_t now = device_time(d);
    renew(d);
    if (!p->given) {
        return true;
    }
    return (p->payees & (who | PAYEE_ANY)) != 0 && (p->expires == 0 || (now != 0 && now < p->expires)) &&
           (p->order == 0 || msat <= p->order) && (p->per_minute == 0 || p->count < p->per_minute) &&
           (p->total == 0 || (p->spent <= p->total && msat <= p->total - p->spent));
}

/* policy_count counts a payment; it is saved with the promise. */
void policy_count(struct coinop_device *d, uint64_t msat) {
    d->policy.spent += msat;
    d->policy.count++;
}

/* policy_other hears that the device has got another channel: who owns its payee
 * must be looked up in the policy again. */
void policy_other(struct coinop_device *d, enum payee who) { d->policy.payees &= (uint8_t)~who; }

/* Messages. */

static bool names(const uint8_t *to, size_t n, const char *scheme, const uint8_t *node) {
    static const char digits[] = "0123456789abcdef";
    size_t i, at = length_of(scheme);
    if (node == NULL || n < at + 2 * KEY || memcmp(to, scheme, at) != 0 || (n > at + 2 * KEY && to[at + 2 * KEY] != '@')) {
        return false;
    }
    for (i = 0; i < KEY; i++) {
        if (to[at + 2 * i] != (uint8_t)digits[node[i] >> 4] || to[at + 2 * i + 1] != (uint8_t)digits[node[i] & 15]) {
            return false;
        }
    }
    return true;
}

static uint64_t least(uint64_t a, uint64_t b) { return b != 0 && (a == 0 || b < a) ? b : a; }

/* read_policy reads what a policy says, up to its seal. All that this device pays
 * goes to its gateway, so the limit for one payee bounds the total; units it does
 * not know. False: it is another device's. */
static bool read_policy(const struct coinop_device *d, struct reader *r, struct coinop_policy *p) {
    size_t size;
    uint64_t n;
    const uint8_t *text = take_text(r, COINOP_NAME - 1, &size);
    if (text == NULL || size != d->name_size || memcmp(text, d->name, size) != 0) {
        return false;
    }
    p->given = true;
    p->version = take_uint(r, UINT64_MAX);
    p->order = take_uint(r, MAX_AMOUNT);
    take_uint(r, MAX_AMOUNT); /* for a unit */
    p->total = take_uint(r, MAX_AMOUNT);
    p->total = least(p->total, take_uint(r, MAX_AMOUNT));
    p->per_minute = (uint32_t)take_uint(r, MAX_PER_MINUTE);
    text = take_text(r, MAX_PERIOD, &size);
    p->period = text != NULL ? period_of(text, size) : NEVER;
    n = take_uint(r, MAX_PAYEES);
    for (p->payees = n == 0 ? PAYEE_ANY : 0; n > 0 && !r->bad; n--) {
        text = take_text(r, MAX_TO, &size);
        if (text != NULL && names(text, size, "payword://", d->coins.node)) {
            p->payees |= PAYEE_COINS;
        }
        if (text != NULL && names(text, size, "oneway://", d->tickets.node)) {
            p->payees |= PAYEE_TICKETS;
        }
    }
    p->expires = take_uint(r, MAX_TIME);
    return !r->bad;
}

/* policy_receive takes a fleet.Policy. The same again writes no flash. */
void policy_receive(struct coinop_device *d, struct reader *r) {
    static const uint8_t no_key[KEY]; /* of a device that shares a secret */
    struct coinop_policy p = d->policy, *have = &d->policy;
    const uint8_t *body = r->b, *sig;
    size_t size, sig_size;
    struct sha256 s;
    if (!read_policy(d, r, &p)) {
        return;
    }
    size = (size_t)(r->b - body);
    sig = take_text(r, MAX_SIG, &sig_size);
    if (!take_end(r) || d->gateway_size == 0 || d->broken || (have->given && p.version < have->version)) {
        return;
    }
    seal_start(d, &s, "coinop/policy", "policy");
    sha256_add(&s, d->gateway_size == SHARED ? no_key : d->pub, KEY);
    sha256_add(&s, body, size);
    if (!seal_good(d, &s, sig, sig_size)) {
        return;
    }
    if (!have->given || p.version != have->version || p.payees != have->payees) {
        *have = p;
        d->changed = true;
        device_save(d);
    }
}

void policy_store(const struct coinop_device *d, struct writer *w) {
    const struct coinop_policy *p = &d->policy;
    put_u8(w, p->given);
    put_u8(w, p->period);
    put_u8(w, p->payees);
    put_uint(w, p->per_minute);
    put_uint(w, p->version);
    put_uint(w, p->order);
    put_uint(w, p->total);
    put_uint(w, p->expires);
    put_uint(w, p->spent);
    put_uint(w, p->since);
    put_uint(w, p->count);
}

void policy_load(struct coinop_device *d, struct reader *r) {
    struct coinop_policy *p = &d->policy;
    p->given = take_uint(r, 1) == 1;
    p->period = (uint8_t)take_uint(r, YEARLY);
    p->payees = (uint8_t)take_uint(r, PAYEE_COINS | PAYEE_TICKETS | PAYEE_ANY);
    p->per_minute = (uint32_t)take_uint(r, MAX_PER_MINUTE);
    p->version = take_uint(r, UINT64_MAX);
    p->order = take_uint(r, MAX_AMOUNT);
    p->total = take_uint(r, MAX_AMOUNT);
    p->expires = take_uint(r, MAX_TIME);
    p->spent = take_uint(r, UINT64_MAX);
    p->since = (uint32_t)take_uint(r, UINT32_MAX);
    p->count = (uint32_t)take_uint(r, UINT32_MAX);
}
