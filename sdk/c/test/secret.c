/* Uses a key that valgrind takes for undefined; see time_test.go. */
#include <stdio.h>
#include <valgrind/memcheck.h>

#include "../src/parts.h"

int main(void) {
    uint8_t key[32] = {1, 2, 3}, child[32], digest[32] = {4}, sig[64], pub[33];
    VALGRIND_MAKE_MEM_UNDEFINED(key, sizeof key);
    key_public(pub, key);
    key_derive(child, key, "oneway/payer/", "7");
    ecdsa_sign(sig, child, digest);
    ecdsa_sign(sig, key, digest);
    VALGRIND_MAKE_MEM_DEFINED(sig, sizeof sig);
    printf("signed %02x\n", sig[0]);
    return 0;
}
