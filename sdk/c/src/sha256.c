/* SHA-256 (FIPS 180-4), HMAC (RFC 2104) and the tagged digests of core/keys. */
#include "parts.h"

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turn(uint32_t x, unsigned n) { return (x >> n) | (x << (32u - n)); }

uint32_t load32(const uint8_t *b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | (uint32_t)b[3];
}

void store32(uint8_t *b, uint32_t v) {
    b[0] = (uint8_t)(v >> 24);
    b[1] = (uint8_t)(v >> 16);
    b[2] = (uint8_t)(v >> 8);
    b[3] = (uint8_t)v;
}

void store64(uint8_t *b, uint64_t v) {
    store32(b, (uint32_t)(v >> 32));
    store32(b + 4, (uint32_t)v);
}

/* The 64 words of a block's schedule are made 16 at a time, in place: a quarter
 * of the stack, and no slower. */
static void block(struct sha256 *s) {
    uint32_t w[16], v[8];
    unsigned i;
    for (i = 0; i < 16; i++) {
        w[i] = load32(s->block + 4 * i);
    }
    memcpy(v, s->h, sizeof v);
    for (i = 0; i < 64; i++) {
        uint32_t s0, s1, ch, maj, t1, t2;
        if (i >= 16) {
            uint32_t a = w[(i + 1) & 15], b = w[(i + 14) & 15];
            s0 = turn(a, 7) ^ turn(a, 18) ^ (a >> 3);
            s1 = turn(b, 17) ^ turn(b, 19) ^ (b >> 10);
            w[i & 15] += s0 + w[(i + 9) & 15] + s1;
        }
        s1 = turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25);
        ch = (v[4] & v[5]) ^ (~v[4] & v[6]);
        t1 = v[7] + s1 + ch + K[i] + w[i & 15];
        s0 = turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22);
        maj = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        t2 = s0 + maj;
        v[7] = v[6];
        v[6] = v[5];
        v[5] = v[4];
        v[4] = v[3] + t1;
        v[3] = v[2];
        v[2] = v[1];
        v[1] = v[0];
        v[0] = t1 + t2;
    }
    for (i = 0; i < 8; i++) {
        s->h[i] += v[i];
    }
}

void sha256_start(struct sha256 *s) {
    static const uint32_t h[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    };
    memcpy(s->h, h, sizeof h);
    s->bytes = 0;
}

void sha256_add(struct sha256 *s, const void *data, size_t n) {
    const uint8_t *b = data;
    while (n > 0) {
        size_t at = s->bytes & 63u, room = 64 - at, take = n < room ? n : room;
        memcpy(s->block + at, b, take);
        s->bytes += (uint32_t)take;
        b += take;
        n -= take;
        if (take == room) {
            block(s);
        }
    }
}

void sha256_end(struct sha256 *s, uint8_t sum[32]) {
    static const uint8_t pad[64] = {0x80};
    uint8_t length[8];
    unsigned i;
    store64(length, (uint64_t)s->bytes * 8);
    sha256_add(s, pad, 1 + ((119u - (s->bytes & 63u)) & 63u));
    sha256_add(s, length, sizeof length);
    for (i = 0; i < 8; i++) {
        store32(sum + 4 * i, s->h[i]);
    }
    wipe(s, sizeof *s);
}

void sha256_tagged(struct sha256 *s, const char *tag) {
    uint8_t t[32];
    sha256_start(s);
    sha256_add(s, tag, length_of(tag));
    sha256_end(s, t);
    sha256_start(s);
    sha256_add(s, t, sizeof t);
    sha256_add(s, t, sizeof t);
}

/* The key of every HMAC here is 32 bytes. */
static void keyed(struct sha256 *s, const uint8_t key[32], uint8_t pad) {
    uint8_t b[64];
    unsigned i;
    memset(b, pad, sizeof b);
    for (i = 0; i < 32; i++) {
        b[i] = (uint8_t)(b[i] ^ key[i]);
    }
    sha256_start(s);
    sha256_add(s, b, sizeof b);
    wipe(b, sizeof b);
}

void hmac_start(struct sha256 *s, const uint8_t key[32]) { keyed(s, key, 0x36); }

void hmac_end(struct sha256 *s, const uint8_t key[32], uint8_t sum[32]) {
    uint8_t inner[32];
    sha256_end(s, inner);
    keyed(s, key, 0x5c);
    sha256_add(s, inner, sizeof inner);
    sha256_end(s, sum);
}

size_t length_of(const char *text) {
    enum { LONGEST = 1023 }; /* no text here is longer */
    size_t n = 0;
    while (n < LONGEST && text[n] != 0) {
        n++;
    }
    return n;
}

/* A compiler may drop a memset of what is never read again; not this one. */
void wipe(void *p, size_t n) {
    volatile uint8_t *b = p;
    while (n > 0) {
        n--;
        b[n] = 0;
    }
}
