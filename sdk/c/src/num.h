/* Numbers of 256 bits modulo 2^256 - c: what both curves compute with. */
#ifndef COINOP_NUM_H
#define COINOP_NUM_H

#include "parts.h"

/* A num has its limbs in rising order. */
struct num {
    uint32_t v[8];
};

/* A modulus is m = 2^256 - c, with c of at most five limbs. */
struct modulus {
    struct num m;
    uint32_t c[5];
    uint32_t limbs; /* of c */
};

void num_read(struct num *r, const uint8_t b[32]); /* big-endian */
void num_write(uint8_t b[32], const struct num *a);
bool num_is_zero(const struct num *a);
bool num_equal(const struct num *a, const struct num *b);
bool num_less(const struct num *a, const struct num *b);
uint32_t num_more(const struct num *a, const struct num *b); /* all ones if a > b, or 0 */
uint32_t num_bit(const struct num *a, uint32_t i);
uint32_t num_add(struct num *r, const struct num *a, const struct num *b); /* the carry */
uint32_t num_sub(struct num *r, const struct num *a, const struct num *b); /* the borrow */

/* num_choose sets r to a if mask is all ones, and leaves it if mask is 0. */
void num_choose(struct num *r, const struct num *a, uint32_t mask);
uint32_t all_if_zero(uint32_t a);

/* Arguments of these are less than the modulus, and so is what they give; a - b
 * may have a = m. All take the same time for all numbers, but mod_power's time
 * tells its exponent. */
void mod_add(struct num *r, const struct num *a, const struct num *b, const struct modulus *m);
void mod_sub(struct num *r, const struct num *a, const struct num *b, const struct modulus *m);
void mod_mul(struct num *r, const struct num *a, const struct num *b, const struct modulus *m);
void mod_power(struct num *r, const struct num *a, const struct num *exponent, const struct modulus *m);
void mod_inverse(struct num *r, const struct num *a, const struct modulus *m); /* m is prime */

#endif
