#!/bin/sh
# Prints what coinop takes of a Cortex-M0+ and an M4, compiled for size. Flash is
# code and constants of a program that uses all of a part, with the compiler's own
# arithmetic and without libc; RAM is the memory that the caller gives; stack is
# the deepest path through coinop's own functions, to which the port's are added.
# With an argument it prints the first row only.
set -e
cd "$(dirname "$0")/.."
gcc=arm-none-eabi-gcc
flags="-std=c99 -Os -mthumb -ffunction-sections -fdata-sections -Isrc -Wall -Wextra -Werror"
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT

# part CPU NAME FLAGS ROOTS...: the functions that a program calls, and its state.
part() {
    cpu=$1 name=$2 more=$3 state=$4
    shift 4
    dir="$top/$cpu$more"
    if ! [ -d "$dir" ]; then
        mkdir "$dir"
        ls src/*.c | xargs -P "$(nproc)" -I{} sh -c "$gcc $flags -mcpu=$cpu $more -fcallgraph-info=su -c {} -o $dir/\$(basename {} .c).o"
    fi
    printf '#include "coinop.h"\n#include "coinop_serial.h"\n#include "coinop_mqtt.h"\n%s state;\n' "$state" >"$dir/state.c"
    $gcc $flags -mcpu="$cpu" $more -c "$dir/state.c" -o "$dir/state.x"
    undefined=""
    for root; do undefined="$undefined -Wl,-u,$root"; done
    $gcc -mcpu="$cpu" -mthumb -nostartfiles -Wl,--gc-sections -Wl,-e,"$1" $undefined "$dir"/*.o -o "$dir/program" 2>"$dir/warnings" || cat "$dir/warnings"
    libc=$(arm-none-eabi-nm -S --size-sort "$dir/program" | awk '$4 ~ /^mem(cpy|set|cmp|move)$/ { n += ("0x" $2) + 0 } END { print n + 0 }')
    flash=$(arm-none-eabi-size "$dir/program" | awk 'NR == 2 { print $1 + $2 }')
    ram=$(arm-none-eabi-nm -S "$dir/state.x" | awk '$4 == "state" { print $2 }')
    stack=$(cat "$dir"/*.ci | awk -v roots="$*" -f test/stack.awk)
    printf '| %-13s | %-33s | %6d | %6d | %6d |\n' "$cpu" "$name" "$flash" "$((0x$ram))" "$stack"
}

device="coinop_start coinop_linked coinop_receive coinop_tick coinop_clock coinop_pay coinop_meter coinop_pay_msat coinop_settle coinop_buy coinop_acted coinop_trouble"
echo '| core          | part                              |  flash |    RAM |  stack |'
echo '|---------------|-----------------------------------|-------:|-------:|-------:|'
for cpu in cortex-m0plus cortex-m4; do
    part $cpu 'device' '' 'struct coinop_device' $device
    [ -z "$1" ] || exit 0
    part $cpu 'device, chains of 256 coins' '-DCOINOP_LEVELS=8' 'struct coinop_device' $device
    part $cpu 'device, commands by shared secret' '-DCOINOP_VERIFY=0' 'struct coinop_device' $device
    part $cpu 'device that checks stamps' '-DCOINOP_STAMPS=1' 'struct coinop_device' $device
    part $cpu 'serial line' '' 'struct coinop_serial' coinop_serial_start coinop_serial_send coinop_serial_receive coinop_serial_tick
    part $cpu 'MQTT' '' 'struct coinop_mqtt' coinop_mqtt_start coinop_mqtt_send coinop_mqtt_receive coinop_mqtt_tick
done
