/* Hash chains, handed out from the end that hashing starts from (package
 * payword): w_{i-1} = H(w_i), of which the last is a secret.
 *
 * A chain remembers log2 of its words on the way, as Jakobsson's "Fractal hash
 * sequence representation and traversal" (2002) does, so that no word costs more
 * than log2 hashes. Where every pebble stands follows from the index alone. */
#include "parts.h"

/* back hashes w n times. */
static void back(uint8_t w[32], uint32_t n) {
    static const char tag[] = "coinop/payword/1";
    struct sha256 s;
    for (; n > 0; n--) {
        sha256_start(&s);
        sha256_add(&s, tag, sizeof tag - 1);
        sha256_add(&s, w, 32);
        sha256_end(&s, w);
    }
}

/* chain_start makes a chain of which only the last word is known. The length is
 * a power of two, at most 2^COINOP_LEVELS. */
void chain_start(struct coinop_chain *c, const uint8_t seed[32], uint32_t length) {
    memset(c, 0, sizeof *c);
    c->length = length;
    for (c->levels = 0; (1u << c->levels) < length; c->levels++) {
    }
    c->down = length;
    memcpy(c->word, seed, 32);
    c->at[c->levels] = length;
    memcpy(c->pebbles[c->levels], seed, 32);
}

/* chain_lay hashes down to word `to`, and leaves the pebbles of index 0 on the
 * way. The chain is ready at 0. It may be called bit by bit. */
void chain_lay(struct coinop_chain *c, uint32_t to) {
    uint32_t level;
    while (c->down > to) {
        back(c->word, 1);
        c->down--;
        for (level = 1; level < c->levels; level++) {
            if (c->down == 1u << level) {
                c->at[level] = c->down;
                memcpy(c->pebbles[level], c->word, 32);
            }
        }
    }
}

/* place is where the pebble of a level stands once word `index` is handed out,
 * or 0 if it is not needed any more. Its own place is the next odd multiple of
 * 2^level; to there it walks from the place of a higher one, by two words for
 * each that is handed out. */
static uint32_t place(const struct coinop_chain *c, uint32_t level, uint32_t index) {
    uint32_t own = ((index >> level) + 1u) | 1u, leap, walked;
    if (own > c->length >> level) {
        return 0;
    }
    own <<= level;
    leap = own - (2u << level); /* wraps for the pebbles that were laid out in place */
    walked = 2u * (index - leap);
    return own + (walked < 1u << level ? (1u << level) - walked : 0);
}

/* find gives word `at`, hashed from the nearest pebble above. */
static void find(const struct coinop_chain *c, uint32_t at, uint8_t w[32]) {
    uint32_t level, best = c->levels, from = UINT32_MAX;
    for (level = 1; level <= c->levels; level++) {
        if (c->at[level] >= at && c->at[level] < from) {
            from = c->at[level];
            best = level;
        }
    }
    memcpy(w, c->pebbles[best], 32);
    back(w, from - at);
}

/* chain_move hands out word `to`, which comes after the last. The pebbles move
 * in place, those that go highest first: one that leaps leaves a word that is
 * handed out, and one that walks leaves it to those above, which have moved. One
 * that is not needed any more may stay where it is. */
void chain_move(struct coinop_chain *c, uint32_t to) {
    uint32_t moved = 0;
    find(c, to, c->word);
    c->index = to;
    for (;;) {
        uint32_t level, highest = 0, target = 0;
        for (level = 1; level <= c->levels; level++) {
            uint32_t at = place(c, level, to);
            if ((moved >> level & 1u) == 0 && at > target) {
                target = at;
                highest = level;
            }
        }
        if (target == 0) {
            break;
        }
        moved |= 1u << highest;
        if (c->at[highest] != target) {
            uint8_t w[32];
            find(c, target, w);
            c->at[highest] = target;
            memcpy(c->pebbles[highest], w, 32);
        }
    }
}
