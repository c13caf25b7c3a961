/* What the examples need of a board; yours has other names for it. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint32_t board_milliseconds(void);
uint32_t board_random(void);
uint64_t board_unix_ms(void); /* 0 while nobody has set the clock */
bool board_flash_read(uint32_t slot, uint8_t *bytes, size_t size);
bool board_flash_write(uint32_t slot, const uint8_t *bytes, size_t size); /* erases the page of a page's first slot */
size_t board_read(uint8_t *bytes, size_t room); /* of the UART or the socket: what has come, perhaps nothing */
void board_write(const uint8_t *bytes, size_t size);
void board_connect(void);          /* the socket, to the broker */
void board_motor(unsigned spiral); /* turns it once */
bool board_dropped(void);          /* the light barrier has seen something fall */
uint32_t board_litres(void);       /* the pump's meter, counted since it was built */
void board_valve(bool open);

extern const uint8_t board_key[32]; /* of this device alone; from a secure element if there is one */
extern const uint8_t board_blob[];  /* of the gateway's tool */
extern const size_t board_blob_size;
