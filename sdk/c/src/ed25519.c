/* Ed25519 verification (RFC 8032), for devices that check stamps. Everything is
 * public: nothing takes constant time, and small comes before fast. */
#include "num.h"

#if COINOP_STAMPS

/* SHA-512 (FIPS 180-4). */

static const uint64_t K[80] = {
    UINT64_C(0x428a2f98d728ae22), UINT64_C(0x7137449123ef65cd), UINT64_C(0xb5c0fbcfec4d3b2f), UINT64_C(0xe9b5dba58189dbbc),
    UINT64_C(0x3956c25bf348b538), UINT64_C(0x59f111f1b605d019), UINT64_C(0x923f82a4af194f9b), UINT64_C(0xab1c5ed5da6d8118),
    UINT64_C(0xd807aa98a3030242), UINT64_C(0x12835b0145706fbe), UINT64_C(0x243185be4ee4b28c), UINT64_C(0x550c7dc3d5ffb4e2),
    UINT64_C(0x72be5d74f27b896f), UINT64_C(0x80deb1fe3b1696b1), UINT64_C(0x9bdc06a725c71235), UINT64_C(0xc19bf174cf692694),
    UINT64_C(0xe49b69c19ef14ad2), UINT64_C(0xefbe4786384f25e3), UINT64_C(0x0fc19dc68b8cd5b5), UINT64_C(0x240ca1cc77ac9c65),
    UINT64_C(0x2de92c6f592b0275), UINT64_C(0x4a7484aa6ea6e483), UINT64_C(0x5cb0a9dcbd41fbd4), UINT64_C(0x76f988da831153b5),
    UINT64_C(0x983e5152ee66dfab), UINT64_C(0xa831c66d2db43210), UINT64_C(0xb00327c898fb213f), UINT64_C(0xbf597fc7beef0ee4),
    UINT64_C(0xc6e00bf33da88fc2), UINT64_C(0xd5a79147930aa725), UINT64_C(0x06ca6351e003826f), UINT64_C(0x142929670a0e6e70),
    UINT64_C(0x27b70a8546d22ffc), UINT64_C(0x2e1b21385c26c926), UINT64_C(0x4d2c6dfc5ac42aed), UINT64_C(0x53380d139d95b3df),
    UINT64_C(0x650a73548baf63de), UINT64_C(0x766a0abb3c77b2a8), UINT64_C(0x81c2c92e47edaee6), UINT64_C(0x92722c851482353b),
    UINT64_C(0xa2bfe8a14cf10364), UINT64_C(0xa81a664bbc423001), UINT64_C(0xc24b8b70d0f89791), UINT64_C(0xc76c51a30654be30),
    UINT64_C(0xd192e819d6ef5218), UINT64_C(0xd69906245565a910), UINT64_C(0xf40e35855771202a), UINT64_C(0x106aa07032bbd1b8),
    UINT64_C(0x19a4c116b8d2d0c8), UINT64_C(0x1e376c085141ab53), UINT64_C(0x2748774cdf8eeb99), UINT64_C(0x34b0bcb5e19b48a8),
    UINT64_C(0x391c0cb3c5c95a63), UINT64_C(0x4ed8aa4ae3418acb), UINT64_C(0x5b9cca4f7763e373), UINT64_C(0x682e6ff3d6b2b8a3),
    UINT64_C(0x748f82ee5defb2fc), UINT64_C(0x78a5636f43172f60), UINT64_C(0x84c87814a1f0ab72), UINT64_C(0x8cc702081a6439ec),
    UINT64_C(0x90befffa23631e28), UINT64_C(0xa4506cebde82bde9), UINT64_C(0xbef9a3f7b2c67915), UINT64_C(0xc67178f2e372532b),
    UINT64_C(0xca273eceea26619c), UINT64_C(0xd186b8c721c0c207), UINT64_C(0xeada7dd6cde0eb1e), UINT64_C(0xf57d4f7fee6ed178),
    UINT64_C(0x06f067aa72176fba), UINT64_C(0x0a637dc5a2c898a6), UINT64_C(0x113f9804bef90dae), UINT64_C(0x1b710b35131c471b),
    UINT64_C(0x28db77f523047d84), UINT64_C(0x32caab7b40c72493), UINT64_C(0x3c9ebe0a15c9bebc), UINT64_C(0x431d67c49c100d4c),
    UINT64_C(0x4cc5d4becb3e42b6), UINT64_C(0x597f299cfc657e2a), UINT64_C(0x5fcb6fab3ad6faec), UINT64_C(0x6c44198c4a475817),
};

struct sha512 {
    uint64_t h[8];
    uint32_t bytes;
    uint8_t block[128];
};

static uint64_t turn(uint64_t x, unsigned n) { return (x >> n) | (x << (64u - n)); }

static void block(struct sha512 *s) {
    uint64_t w[16], v[8];
    unsigned i;
    for (i = 0; i < 16; i++) {
        w[i] = (uint64_t)load32(s->block + 8 * i) << 32 | load32(s->block + 8 * i + 4);
    }
    memcpy(v, s->h, sizeof v);
    for (i = 0; i < 80; i++) {
        uint64_t s0, s1, t1, t2;
        if (i >= 16) {
            uint64_t a = w[(i + 1) & 15], b = w[(i + 14) & 15];
            s0 = turn(a, 1) ^ turn(a, 8) ^ (a >> 7);
            s1 = turn(b, 19) ^ turn(b, 61) ^ (b >> 6);
            w[i & 15] += s0 + w[(i + 9) & 15] + s1;
        }
        s1 = turn(v[4], 14) ^ turn(v[4], 18) ^ turn(v[4], 41);
        t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[i] + w[i & 15];
        s0 = turn(v[0], 28) ^ turn(v[0], 34) ^ turn(v[0], 39);
        t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (i = 0; i < 8; i++) {
        s->h[i] += v[i];
    }
}

static void sha512_start(struct sha512 *s) {
    static const uint64_t h[8] = {
        UINT64_C(0x6a09e667f3bcc908), UINT64_C(0xbb67ae8584caa73b), UINT64_C(0x3c6ef372fe94f82b), UINT64_C(0xa54ff53a5f1d36f1),
        UINT64_C(0x510e527fade682d1), UINT64_C(0x9b05688c2b3e6c1f), UINT64_C(0x1f83d9abfb41bd6b), UINT64_C(0x5be0cd19137e2179),
    };
    memcpy(s->h, h, sizeof h);
    s->bytes = 0;
}

static void sha512_add(struct sha512 *s, const uint8_t *b, size_t n) {
    for (; n > 0; n--, b++) {
        s->block[s->bytes & 127u] = *b;
        s->bytes++;
        if ((s->bytes & 127u) == 0) {
            block(s);
        }
    }
}

static void sha512_end(struct sha512 *s, uint8_t sum[64]) {
    static const uint8_t pad[128] = {0x80};
    uint8_t length[16] = {0};
    unsigned i;
    store64(length + 8, (uint64_t)s->bytes * 8);
    sha512_add(s, pad, 1 + ((239u - (s->bytes & 127u)) & 127u));
    sha512_add(s, length, sizeof length);
    for (i = 0; i < 8; i++) {
        store64(sum + 8 * i, s->h[i]);
    }
}

/* The field has the prime p = 2^255 - 19. Numbers are kept modulo 2p, which is
 * 2^256 - 38, and only looked at modulo p. */
static const struct modulus M = {
    {{0xffffffda, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
    {38},
    1,
};

static const struct num PRIME = {{0xffffffed, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x7fffffff}};
static const struct num INVERSE = {{0xffffffeb, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x7fffffff}}; /* p - 2 */
static const struct num ROOT = {{0xfffffffd, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x0fffffff}}; /* (p - 5) / 8 */
static const struct num ROOT_OF_MINUS_1 = {{0x4a0ea0b0, 0xc4ee1b27, 0xad2fe478, 0x2f431806, 0x3dfbd7a7, 0x2b4d0099, 0x4fc1df0b, 0x2b832480}};
static const struct num D = {{0x135978a3, 0x75eb4dca, 0x4141d8ab, 0x00700a4d, 0x7779e898, 0x8cc74079, 0x2b6ffe73, 0x52036cee}}; /* -121665 / 121666 */
static const struct num ORDER = {{0x5cf5d3ed, 0x5812631a, 0xa2f79cd6, 0x14def9de, 0x00000000, 0x00000000, 0x00000000, 0x10000000}}; /* of the group */
static const struct num ONE = {{1}};

/* A point is x/z, y/z and t = xy/z, on -x² + y² = 1 + d x² y². */
struct point {
    struct num x, y, z, t;
};

static const struct point BASE = {
    {{0x8f25d51a, 0xc9562d60, 0x9525a7b2, 0x692cc760, 0xfdd6dc5c, 0xc0a4e231, 0xcd6e53fe, 0x216936d3}},
    {{0x66666658, 0x66666666, 0x66666666, 0x66666666, 0x66666666, 0x66666666, 0x66666666, 0x66666666}},
    {{1}},
    {{0xa5b7dda3, 0x6dde8ab3, 0x775152f5, 0x20f09f80, 0x64abe37d, 0x66ea4e8e, 0xd78b7665, 0x67875f0f}},
};

static void add(struct num *r, const struct num *a, const struct num *b) { mod_add(r, a, b, &M); }
static void sub(struct num *r, const struct num *a, const struct num *b) { mod_sub(r, a, b, &M); }
static void mul(struct num *r, const struct num *a, const struct num *b) { mod_mul(r, a, b, &M); }

static void reduce(struct num *a) {
    if (!num_less(a, &PRIME)) {
        num_sub(a, a, &PRIME);
    }
}

static bool same(const struct num *a, const struct num *b) {
    struct num t;
    sub(&t, a, b);
    reduce(&t);
    return num_is_zero(&t);
}

/* The sum of any two points, equal ones too (RFC 8032, section 5.1.4). */
static void point_add(struct point *r, const struct point *a, const struct point *b) {
    struct num u, v, c, z;
    sub(&u, &a->y, &a->x);
    sub(&c, &b->y, &b->x);
    mul(&u, &u, &c);
    add(&v, &a->y, &a->x);
    add(&c, &b->y, &b->x);
    mul(&v, &v, &c);
    mul(&c, &a->t, &b->t);
    mul(&c, &c, &D);
    add(&c, &c, &c);
    mul(&z, &a->z, &b->z);
    add(&z, &z, &z);
    sub(&r->x, &v, &u); /* e */
    add(&r->y, &v, &u); /* h */
    sub(&u, &z, &c);    /* f */
    add(&v, &z, &c);    /* g */
    mul(&r->t, &r->x, &r->y);
    mul(&r->x, &r->x, &u);
    mul(&r->y, &r->y, &v);
    mul(&r->z, &u, &v);
}

static void read_little(struct num *r, const uint8_t b[32]) {
    uint8_t big[32];
    unsigned i;
    for (i = 0; i < 32; i++) {
        big[i] = b[31 - i];
    }
    num_read(r, big);
}

/* minus_point reads a point and negates it (RFC 8032, section 5.1.3). */
static bool minus_point(struct point *p, const uint8_t b[32]) {
    struct num u, v, w;
    read_little(&p->y, b);
    p->y.v[7] &= 0x7fffffff;
    p->z = ONE;
    mul(&v, &p->y, &p->y); /* x² = u/v = (y² - 1) / (d y² + 1) */
    sub(&u, &v, &ONE);
    mul(&v, &v, &D);
    add(&v, &v, &ONE);
    mul(&w, &v, &v); /* x = u v³ (u v⁷)^((p-5)/8) */
    mul(&w, &w, &v);
    mul(&p->x, &u, &w);
    mul(&w, &w, &p->x);
    mul(&w, &w, &v);
    mod_power(&w, &w, &ROOT, &M);
    mul(&p->x, &p->x, &w);
    mul(&w, &p->x, &p->x);
    mul(&w, &w, &v);
    if (!same(&w, &u)) {
        sub(&u, &M.m, &u);
        if (!same(&w, &u)) {
            return false;
        }
        mul(&p->x, &p->x, &ROOT_OF_MINUS_1);
    }
    reduce(&p->x);
    if ((p->x.v[0] & 1u) == b[31] >> 7) {
        sub(&p->x, &M.m, &p->x);
    }
    mul(&p->t, &p->x, &p->y);
    return true;
}

/* below_order reduces 512 bits, little-endian, bit by bit. */
static void below_order(struct num *r, const uint8_t b[64]) {
    uint32_t i;
    memset(r, 0, sizeof *r);
    for (i = 512; i > 0; i--) {
        num_add(r, r, r);
        r->v[0] |= (uint32_t)(b[(i - 1) / 8] >> ((i - 1) % 8)) & 1u;
        if (!num_less(r, &ORDER)) {
            num_sub(r, r, &ORDER);
        }
    }
}

bool ed25519_verify(const uint8_t pub[32], const uint8_t *message, size_t size, const uint8_t sig[64]) {
    struct sha512 h;
    struct point sum = {{{0}}, {{1}}, {{1}}, {{0}}}, key;
    struct num s, k;
    uint8_t b[64], x;
    uint32_t i;
    read_little(&s, sig + 32);
    if (!num_less(&s, &ORDER) || !minus_point(&key, pub)) {
        return false;
    }
    sha512_start(&h);
    sha512_add(&h, sig, 32);
    sha512_add(&h, pub, 32);
    sha512_add(&h, message, size);
    sha512_end(&h, b);
    below_order(&k, b);
    for (i = 253; i > 0; i--) { /* s·B - k·A should be R */
        point_add(&sum, &sum, &sum);
        if (num_bit(&s, i - 1) != 0) {
            point_add(&sum, &sum, &BASE);
        }
        if (num_bit(&k, i - 1) != 0) {
            point_add(&sum, &sum, &key);
        }
    }
    mod_power(&k, &sum.z, &INVERSE, &M);
    mul(&sum.x, &sum.x, &k);
    mul(&sum.y, &sum.y, &k);
    reduce(&sum.x);
    reduce(&sum.y);
    x = (uint8_t)(sum.x.v[0] & 1u);
    num_write(b, &sum.y);
    b[0] = (uint8_t)(b[0] | x << 7);
    for (i = 0; i < 32; i++) {
        if (b[31 - i] != sig[i]) {
            return false;
        }
    }
    return true;
}
#else
typedef int nothing; /* C99 wants something in every file */
#endif
