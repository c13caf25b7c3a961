/* ECDSA over secp256k1, as core/keys signs: RFC 6979 nonces, low S.
 *
 * Points are projective and added by the complete formulas of Renes, Costello
 * and Batina (2016), algorithm 7: no case for equal points, opposite ones or
 * infinity, so none to get wrong and none to leak. A point is doubled by adding
 * it to itself; a formula of its own would save a ninth of a signature.
 *
 * Multiples of the generator come from a comb of four teeth: bits i, i+64,
 * i+128 and i+192 of the scalar choose one of 16 points, all of which are read
 * each time, so neither branches nor addresses depend on a secret. */
#include "num.h"

static const struct modulus P = {
    {{0xfffffc2f, 0xfffffffe, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
    {977, 1},
    2,
};

static const struct modulus N = {
    {{0xd0364141, 0xbfd25e8c, 0xaf48a03b, 0xbaaedce6, 0xfffffffe, 0xffffffff, 0xffffffff, 0xffffffff}},
    {0x2fc9bebf, 0x402da173, 0x50b75fc4, 0x45512319, 1},
    5,
};

/* (n-1)/2: a signature's s is no more. */
static const struct num HALF = {
    {0x681b20a0, 0xdfe92f46, 0x57a4501d, 0x5d576e73, 0xffffffff, 0xffffffff, 0xffffffff, 0x7fffffff},
};

struct point {
    struct num x, y, z;
};

#include "comb.h"

static void add(struct num *r, const struct num *a, const struct num *b) { mod_add(r, a, b, &P); }
static void sub(struct num *r, const struct num *a, const struct num *b) { mod_sub(r, a, b, &P); }
static void mul(struct num *r, const struct num *a, const struct num *b) { mod_mul(r, a, b, &P); }

/* 3b of the curve's equation y² = x³ + b is 21 = (4 + 1)·4 + 1. */
static void times21(struct num *r) {
    struct num x = *r;
    unsigned i;
    for (i = 0; i < 2; i++) {
        add(r, r, r);
        add(r, r, r);
        add(r, r, &x);
    }
}

static void point_add(struct point *r, const struct point *a, const struct point *b) {
    struct num t0, t1, t2, t3, t4, x, y, z;
    mul(&t0, &a->x, &b->x);
    mul(&t1, &a->y, &b->y);
    mul(&t2, &a->z, &b->z);
    add(&t3, &a->x, &a->y); /* t3 = x1·y2 + x2·y1 */
    add(&t4, &b->x, &b->y);
    mul(&t3, &t3, &t4);
    add(&t4, &t0, &t1);
    sub(&t3, &t3, &t4);
    add(&t4, &a->y, &a->z); /* t4 = y1·z2 + y2·z1 */
    add(&x, &b->y, &b->z);
    mul(&t4, &t4, &x);
    add(&x, &t1, &t2);
    sub(&t4, &t4, &x);
    add(&x, &a->x, &a->z); /* y = x1·z2 + x2·z1 */
    add(&y, &b->x, &b->z);
    mul(&x, &x, &y);
    add(&y, &t0, &t2);
    sub(&y, &x, &y);
    add(&x, &t0, &t0);
    add(&t0, &x, &t0);
    times21(&t2);
    add(&z, &t1, &t2);
    sub(&t1, &t1, &t2);
    times21(&y);
    mul(&x, &t4, &y);
    mul(&t2, &t3, &t1);
    sub(&r->x, &t2, &x);
    mul(&y, &y, &t0);
    mul(&t1, &t1, &z);
    add(&r->y, &t1, &y);
    mul(&t0, &t0, &t3);
    mul(&z, &z, &t4);
    add(&r->z, &z, &t0);
}

static const struct point INFINITY_POINT = {{{0}}, {{1}}, {{0}}};

/* tooth reads point `which` of the comb, by reading all. */
static void tooth(struct point *r, uint32_t which) {
    uint32_t i;
    *r = INFINITY_POINT;
    for (i = 1; i < 16; i++) {
        uint32_t mask = all_if_zero(i ^ which);
        num_choose(&r->x, &COMB[i - 1][0], mask);
        num_choose(&r->y, &COMB[i - 1][1], mask);
        r->z.v[0] |= mask & 1u;
    }
}

/* times_g is k·G, in constant time. */
static void times_g(struct point *r, const struct num *k) {
    struct point t;
    uint32_t i;
    *r = INFINITY_POINT;
    for (i = 64; i > 0; i--) {
        uint32_t bit = i - 1;
        point_add(r, r, r);
        tooth(&t, num_bit(k, bit) | num_bit(k, bit + 64) << 1 | num_bit(k, bit + 128) << 2 | num_bit(k, bit + 192) << 3);
        point_add(r, r, &t);
    }
    wipe(&t, sizeof t);
}

/* affine makes z = 1. */
static void affine(struct point *p) {
    mod_inverse(&p->z, &p->z, &P);
    mul(&p->x, &p->x, &p->z);
    mul(&p->y, &p->y, &p->z);
    p->z = INFINITY_POINT.y;
}

bool key_valid(const uint8_t key[32]) {
    struct num k;
    num_read(&k, key);
    return !num_is_zero(&k) && num_less(&k, &N.m);
}

void key_public(uint8_t pub[33], const uint8_t key[32]) {
    struct num k;
    struct point p;
    num_read(&k, key);
    times_g(&p, &k);
    affine(&p);
    pub[0] = (uint8_t)(2u | (p.y.v[0] & 1u));
    num_write(pub + 1, &p.x);
    wipe(&k, sizeof k);
}

/* A nonce is the stream of RFC 6979, section 3.2, for one key and digest. */
struct nonce {
    uint8_t k[32], v[32];
};

/* stir is the section's step d, f or h: K = HMAC(K, V | byte | more), V = HMAC(K, V). */
static void stir(struct nonce *n, uint8_t byte, const uint8_t *more, size_t size) {
    struct sha256 s;
    hmac_start(&s, n->k);
    sha256_add(&s, n->v, 32);
    sha256_add(&s, &byte, 1);
    sha256_add(&s, more, size);
    hmac_end(&s, n->k, n->k);
    hmac_start(&s, n->k);
    sha256_add(&s, n->v, 32);
    hmac_end(&s, n->k, n->v);
}

static void nonce_start(struct nonce *n, const uint8_t key[32], const struct num *z) {
    uint8_t seed[64];
    memset(n->k, 0, 32);
    memset(n->v, 1, 32);
    memcpy(seed, key, 32);
    num_write(seed + 32, z);
    stir(n, 0, seed, sizeof seed);
    stir(n, 1, seed, sizeof seed);
    wipe(seed, sizeof seed);
}

static void nonce_next(struct nonce *n) {
    struct sha256 s;
    hmac_start(&s, n->k);
    sha256_add(&s, n->v, 32);
    hmac_end(&s, n->k, n->v);
}

/* below_n reduces a number that may be n or more, but is less than 2n. */
static void below_n(struct num *a) {
    static const struct num zero = {{0}};
    mod_add(a, a, &zero, &N);
}

/* sign_once makes r and s of one k, and fails once in 2^128 times. */
static bool sign_once(uint8_t sig[64], const uint8_t nonce[32], const struct num *d, const struct num *z) {
    struct num k, r, s, t;
    struct point p;
    bool made = false;
    num_read(&k, nonce);
    if (key_valid(nonce)) {
        times_g(&p, &k);
        affine(&p);
        r = p.x;
        below_n(&r);
        mod_mul(&t, &r, d, &N);
        mod_add(&t, &t, z, &N);
        mod_inverse(&k, &k, &N);
        mod_mul(&s, &k, &t, &N);
        mod_sub(&t, &N.m, &s, &N);
        made = !num_is_zero(&r) && !num_is_zero(&s);
        num_choose(&s, &t, num_more(&s, &HALF));
        num_write(sig, &r);
        num_write(sig + 32, &s);
        wipe(&t, sizeof t);
        wipe(&p, sizeof p);
    }
    wipe(&k, sizeof k);
    return made;
}

void ecdsa_sign(uint8_t sig[64], const uint8_t key[32], const uint8_t digest[32]) {
    struct nonce n;
    struct num d, z;
    num_read(&d, key);
    num_read(&z, digest);
    below_n(&z);
    nonce_start(&n, key, &z);
    for (nonce_next(&n); !sign_once(sig, n.v, &d, &z); nonce_next(&n)) {
        stir(&n, 0, NULL, 0);
    }
    wipe(&n, sizeof n);
    wipe(&d, sizeof d);
}

#if COINOP_VERIFY
/* From here on nothing is secret, and nothing takes constant time. */

static bool point_read(struct point *p, const uint8_t pub[33]) {
    static const struct num seven = {{7}};
    struct num y2, check;
    num_read(&p->x, pub + 1);
    if ((pub[0] != 2 && pub[0] != 3) || !num_less(&p->x, &P.m)) {
        return false;
    }
    mul(&y2, &p->x, &p->x);
    mul(&y2, &y2, &p->x);
    add(&y2, &y2, &seven);
    {
        /* p is 3 modulo 4, so (p+1)/4 is the exponent of a square root. */
        static const struct num root = {
            {0xbfffff0c, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x3fffffff},
        };
        mod_power(&p->y, &y2, &root, &P);
    }
    mul(&check, &p->y, &p->y);
    if (!num_equal(&check, &y2)) {
        return false;
    }
    if ((p->y.v[0] & 1u) != (pub[0] & 1u)) {
        sub(&p->y, &P.m, &p->y);
    }
    p->z = INFINITY_POINT.y;
    return true;
}

static void times(struct point *r, const struct num *k, const struct point *p) {
    uint32_t i;
    *r = INFINITY_POINT;
    for (i = 256; i > 0; i--) {
        point_add(r, r, r);
        if (num_bit(k, i - 1) != 0) {
            point_add(r, r, p);
        }
    }
}

bool ecdsa_verify(const uint8_t pub[33], const uint8_t digest[32], const uint8_t sig[64]) {
    struct num r, s, z;
    struct point q, a, b;
    num_read(&r, sig);
    num_read(&s, sig + 32);
    num_read(&z, digest);
    below_n(&z);
    if (num_is_zero(&r) || num_is_zero(&s) || !num_less(&r, &N.m) || num_more(&s, &HALF) != 0 || !point_read(&q, pub)) {
        return false;
    }
    mod_inverse(&s, &s, &N);
    mod_mul(&z, &z, &s, &N);
    mod_mul(&s, &r, &s, &N);
    times_g(&a, &z);
    times(&b, &s, &q);
    point_add(&a, &a, &b);
    if (num_is_zero(&a.z)) {
        return false;
    }
    affine(&a);
    below_n(&a.x);
    return num_equal(&a.x, &r);
}
#endif
