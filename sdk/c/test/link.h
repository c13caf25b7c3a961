/* The agent's link: none (messages go over the test's pipe), serial:PATH or
 * mqtt:HOST:PORT:NAME[:PASSWORD]. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void link_open(const char *uri);
int link_fd(void); /* -1 if there is none */
bool link_send(const uint8_t *message, size_t size);
void link_read(void);
void link_tick(uint32_t now);

/* The agent's. */
uint32_t milliseconds(void);
void link_message(const uint8_t *message, size_t size);
void link_up(void);
