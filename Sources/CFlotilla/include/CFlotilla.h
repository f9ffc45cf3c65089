#ifndef CFLOTILLA_H
#define CFLOTILLA_H

// The little C that the broker needs: a checksum in hardware, and system calls that Swift cannot reach.

#include "flotilla_crc32c.h"
#include "flotilla_process.h"
#include "flotilla_server.h"
#include "flotilla_system.h"

#endif
