package serial

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openTTY opens a terminal for bytes as they are: 8 bits, no parity, one stop
// bit, no flow control, nobody else.
func openTTY(path string, baud int) (io.ReadWriteCloser, error) {
	// Not blocking, so that the runtime waits for it and Close ends a Read.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w: check the cable, and that this user is in the group dialout", path, err)
	}
	if err := raw(fd, baud); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open %s at %d baud: %w: check that it is a serial port with that speed", path, baud, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func raw(fd, baud int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetInt(fd, unix.TIOCEXCL, 0); err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = unix.IGNBRK, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.BOTHER
	t.Ispeed, t.Ospeed = uint32(baud), uint32(baud)
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS2, t)
}
