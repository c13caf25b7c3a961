package c_test

import (
	"bufio"
	"bytes"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// ceilings are a fifth above what `make size` printed when they were set: flash,
// RAM and stack in bytes.
var ceilings = map[string][3]int{
	"cortex-m0plus/device":                            {21700, 3300, 2070},
	"cortex-m0plus/device, chains of 256 coins":       {21700, 2950, 2070},
	"cortex-m0plus/device, commands by shared secret": {21050, 3300, 2070},
	"cortex-m0plus/device that checks stamps":         {25800, 3300, 2070},
	"cortex-m0plus/serial line":                       {2190, 4060, 570},
	"cortex-m0plus/MQTT":                              {1990, 1270, 1470},
	"cortex-m4/device":                                {21050, 3300, 1950},
	"cortex-m4/device, chains of 256 coins":           {21000, 2950, 1950},
	"cortex-m4/device, commands by shared secret":     {20400, 3300, 1960},
	"cortex-m4/device that checks stamps":             {25200, 3300, 1950},
	"cortex-m4/serial line":                           {2380, 4060, 570},
	"cortex-m4/MQTT":                                  {2120, 1270, 1440},
}

func TestItFitsAMicrocontroller(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("arm-none-eabi-gcc"); err != nil {
		t.Skip("no arm-none-eabi-gcc here: sizes are not checked (apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi)")
	}
	script, rows := []string{"test/size.sh", "first"}, 1
	if *long {
		script, rows = script[:1], len(ceilings)
	}
	contents(append(script[:1], "test/stack.awk")) // what the result depends on
	out, err := exec.Command("sh", script...).CombinedOutput()
	if err != nil {
		t.Fatalf("make size: %v\n%s", err, out)
	}
	t.Logf("\n%s", out)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		cell := strings.Split(lines.Text(), "|")
		if len(cell) != 7 {
			continue
		}
		name := strings.TrimSpace(cell[1]) + "/" + strings.TrimSpace(cell[2])
		ceiling, known := ceilings[name]
		if !known {
			continue
		}
		rows--
		for i, what := range []string{"flash", "RAM", "stack"} {
			n, err := strconv.Atoi(strings.TrimSpace(cell[3+i]))
			if err != nil || n == 0 || n > ceiling[i] {
				t.Errorf("%s: %s of %d bytes; the ceiling is %d (%v)", name, what, n, ceiling[i], err)
			}
		}
	}
	if rows != 0 {
		t.Errorf("%d rows are missing", rows)
	}
}

func TestExamplesCompile(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("examples/*.c")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, compiler := range [][]string{{"gcc"}, {"arm-none-eabi-gcc", "-mcpu=cortex-m0plus", "-mthumb"}} {
		if _, err := exec.LookPath(compiler[0]); err != nil {
			t.Logf("no %s here: the examples are not compiled by it", compiler[0])
			continue
		}
		for _, file := range files {
			args := append(compiler[1:], "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Isrc", "-c", "-o", filepath.Join(t.TempDir(), "x.o"), file)
			if out, err := exec.Command(compiler[0], args...).CombinedOutput(); err != nil {
				t.Errorf("%s %s: %v\n%s", compiler[0], file, err, out)
			}
		}
	}
}
