//go:build !linux

package serial

import (
	"fmt"
	"io"
	"runtime"
)

func openTTY(path string, _ int) (io.ReadWriteCloser, error) {
	return nil, fmt.Errorf("open %s: a serial line needs Linux, and this is %s", path, runtime.GOOS)
}
