#include "num.h"

void num_read(struct num *r, const uint8_t b[32]) {
    uint32_t i;
    for (i = 0; i < 8; i++) {
        r->v[7 - i] = load32(b + 4 * i);
    }
}

void num_write(uint8_t b[32], const struct num *a) {
    uint32_t i;
    for (i = 0; i < 8; i++) {
        store32(b + 4 * i, a->v[7 - i]);
    }
}

uint32_t all_if_zero(uint32_t a) { return ((a | (0u - a)) >> 31) - 1u; }

bool num_is_zero(const struct num *a) {
    uint32_t any = 0, i;
    for (i = 0; i < 8; i++) {
        any |= a->v[i];
    }
    return any == 0;
}

bool num_equal(const struct num *a, const struct num *b) {
    uint32_t any = 0, i;
    for (i = 0; i < 8; i++) {
        any |= a->v[i] ^ b->v[i];
    }
    return any == 0;
}

bool num_less(const struct num *a, const struct num *b) { return num_more(b, a) != 0; }

uint32_t num_more(const struct num *a, const struct num *b) {
    struct num t;
    return 0u - num_sub(&t, b, a);
}

uint32_t num_bit(const struct num *a, uint32_t i) { return (a->v[i / 32] >> (i % 32)) & 1u; }

uint32_t num_add(struct num *r, const struct num *a, const struct num *b) {
    uint64_t t = 0;
    uint32_t i;
    for (i = 0; i < 8; i++) {
        t += (uint64_t)a->v[i] + b->v[i];
        r->v[i] = (uint32_t)t;
        t >>= 32;
    }
    return (uint32_t)t;
}

uint32_t num_sub(struct num *r, const struct num *a, const struct num *b) {
    uint64_t t = 0;
    uint32_t i;
    for (i = 0; i < 8; i++) {
        t = (uint64_t)a->v[i] - b->v[i] - t;
        r->v[i] = (uint32_t)t;
        t = (t >> 32) & 1u;
    }
    return (uint32_t)t;
}

void num_choose(struct num *r, const struct num *a, uint32_t mask) {
    uint32_t i;
    for (i = 0; i < 8; i++) {
        r->v[i] ^= mask & (r->v[i] ^ a->v[i]);
    }
}

void mod_add(struct num *r, const struct num *a, const struct num *b, const struct modulus *m) {
    struct num less;
    uint32_t carry = num_add(r, a, b);
    uint32_t borrow = num_sub(&less, r, &m->m);
    num_choose(r, &less, 0u - (carry | (borrow ^ 1u)));
}

void mod_sub(struct num *r, const struct num *a, const struct num *b, const struct modulus *m) {
    struct num more;
    uint32_t borrow = num_sub(r, a, b);
    num_add(&more, r, &m->m);
    num_choose(r, &more, 0u - borrow);
}

/* fold takes off the limbs above the eighth, h of them, and adds them back times
 * c, which is the same modulo 2^256 - c. */
static void fold(uint32_t w[16], uint32_t h, const struct modulus *m) {
    uint32_t high[8], i, j;
    memcpy(high, w + 8, 4 * h);
    memset(w + 8, 0, 4 * h);
    for (i = 0; i < h; i++) {
        uint64_t t = 0;
        for (j = 0; j < m->limbs; j++) {
            t += (uint64_t)high[i] * m->c[j] + w[i + j];
            w[i + j] = (uint32_t)t;
            t >>= 32;
        }
        for (j += i; j < 8 + m->limbs + 1; j++) {
            t += w[j];
            w[j] = (uint32_t)t;
            t >>= 32;
        }
    }
}

void mod_mul(struct num *r, const struct num *a, const struct num *b, const struct modulus *m) {
    static const struct num zero = {{0}};
    uint32_t w[16], i, j;
    memset(w, 0, sizeof w);
    for (i = 0; i < 8; i++) {
        uint64_t t = 0;
        for (j = 0; j < 8; j++) {
            t += (uint64_t)a->v[i] * b->v[j] + w[i + j];
            w[i + j] = (uint32_t)t;
            t >>= 32;
        }
        w[i + 8] = (uint32_t)t;
    }
    /* Each time about so many bits are left above: those of c, those of c²
     * over 2^256, one, none. */
    fold(w, 8, m);
    fold(w, m->limbs + 1, m);
    fold(w, 1, m);
    fold(w, 1, m);
    memcpy(r->v, w, sizeof r->v);
    mod_add(r, r, &zero, m);
}

void mod_power(struct num *r, const struct num *a, const struct num *exponent, const struct modulus *m) {
    struct num base = *a, power = {{1}};
    uint32_t i;
    for (i = 256; i > 0; i--) {
        mod_mul(&power, &power, &power, m);
        if (num_bit(exponent, i - 1) != 0) {
            mod_mul(&power, &power, &base, m);
        }
    }
    *r = power;
    wipe(&base, sizeof base);
}

/* By Fermat: a^(m-2). The exponent is public. */
void mod_inverse(struct num *r, const struct num *a, const struct modulus *m) {
    struct num exponent = m->m;
    exponent.v[0] -= 2; /* no modulus here ends in 0 or 1 */
    mod_power(r, a, &exponent, m);
}
