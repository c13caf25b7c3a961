/* The bytes of messages, as core/codec has them. */
#include "parts.h"

void put(struct writer *w, const void *bytes, size_t n) {
    if (n > w->room - w->n) {
        w->room = w->n = 0; /* full for good */
    } else if (n > 0) {
        memcpy(w->b + w->n, bytes, n);
        w->n += n;
    }
}

bool put_fits(const struct writer *w) { return w->room > 0; }

void put_u8(struct writer *w, uint8_t v) { put(w, &v, 1); }

void put_u16(struct writer *w, uint16_t v) {
    put_u8(w, (uint8_t)(v >> 8));
    put_u8(w, (uint8_t)v);
}

void put_u32(struct writer *w, uint32_t v) {
    uint8_t b[4];
    store32(b, v);
    put(w, b, sizeof b);
}

void put_uint(struct writer *w, uint64_t v) {
    for (; v >= 0x80; v >>= 7) {
        put_u8(w, (uint8_t)(v | 0x80));
    }
    put_u8(w, (uint8_t)v);
}

void put_text(struct writer *w, const void *bytes, size_t n) {
    put_uint(w, n);
    put(w, bytes, n);
}

static void fail(struct reader *r) {
    r->bad = true;
    r->n = 0;
}

const uint8_t *take(struct reader *r, size_t n) {
    const uint8_t *b = r->b;
    if (r->bad || n > r->n) {
        fail(r);
        return NULL;
    }
    r->b += n;
    r->n -= n;
    return b;
}

void take_into(struct reader *r, void *to, size_t n) {
    const uint8_t *b = take(r, n);
    if (b != NULL) {
        memcpy(to, b, n);
    } else {
        memset(to, 0, n);
    }
}

uint8_t take_u8(struct reader *r) {
    const uint8_t *b = take(r, 1);
    return b != NULL ? b[0] : 0;
}

uint16_t take_u16(struct reader *r) {
    uint32_t high = take_u8(r);
    return (uint16_t)(high << 8 | take_u8(r));
}

uint32_t take_u32(struct reader *r) {
    const uint8_t *b = take(r, 4);
    return b != NULL ? load32(b) : 0;
}

/* A number must be in its shortest form, or one message would have two. */
uint64_t take_uint(struct reader *r, uint64_t limit) {
    uint64_t v = 0;
    unsigned shift = 0;
    uint8_t b;
    do {
        b = take_u8(r);
        if (r->bad || (shift > 0 && b == 0) || (shift == 63 && b > 1)) {
            fail(r);
            return 0;
        }
        v |= (uint64_t)(b & 0x7f) << shift;
        shift += 7;
    } while (b >= 0x80);
    if (v > limit) {
        fail(r);
        return 0;
    }
    return v;
}

const uint8_t *take_text(struct reader *r, size_t limit, size_t *n) {
    *n = (size_t)take_uint(r, limit);
    return take(r, *n);
}

bool take_end(struct reader *r) { return !r->bad && r->n == 0; }

/* decimal writes a number as text into 21 bytes, and gives where it begins. */
const char *decimal(uint64_t v, char text[21]) {
    char *at = text + 20;
    *at = 0;
    do {
        at--;
        *at = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    return at;
}
