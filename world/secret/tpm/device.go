package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2"

	"coinop.dev/world/secret"
)

const (
	// maxResponse is the longest answer in bytes (TPM_PT_MAX_RESPONSE_SIZE of all
	// TPMs known).
	maxResponse = 4096
	headerSize  = 10 // tag, size, code
	// patience is how long a socket may take to answer a command. A device has its
	// driver's limit.
	patience = time.Minute
	// A TPM may ask to be asked again: while it writes its memory, or tests itself.
	// The pause doubles: ten of them are 5 s.
	maxRetries = 10
	firstPause = 5 * time.Millisecond
)

// A device is where a TPM answers.
type device struct{ network, address string } // network "": a device file

func parseDevice(u *url.URL, socket, tcp string) (device, error) {
	if u.Opaque == "swtpm" {
		switch {
		case socket != "" && tcp == "":
			return device{"unix", socket}, nil
		case tcp != "" && socket == "":
			return device{"tcp", tcp}, nil
		}
		return device{}, fmt.Errorf("secret %s: give socket=/path or tcp=host:port", secret.Name(u))
	}
	if socket != "" || tcp != "" {
		return device{}, fmt.Errorf("secret %s: socket and tcp are for tpm:swtpm", secret.Name(u))
	}
	path, err := secret.Path(u)
	if err != nil {
		return device{}, fmt.Errorf("secret %s names no device; write tpm:/dev/tpmrm0", secret.Name(u))
	}
	return device{"", path}, nil
}

// open begins a conversation. A socket is dialled for every command, so that others
// can talk to the same emulator in between.
func (d device) open() (*line, error) {
	if d.network != "" {
		return &line{device: d}, nil
	}
	f, err := os.OpenFile(d.address, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no TPM at %s; switch it on in the firmware, or name the right device", d.address)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w; add coinop's user to the device's group, often tss", err)
	case errors.Is(err, syscall.EBUSY):
		return nil, fmt.Errorf("%w; somebody else has it, use the resource manager's device, /dev/tpmrm0", err)
	case err != nil:
		return nil, err
	}
	return &line{device: d, file: f}, nil
}

// A line is an open device.
type line struct {
	device
	file *os.File
}

func (l *line) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// Send is transport.TPM's: one command, one response.
func (l *line) Send(command []byte) ([]byte, error) {
	for try := 0; ; try++ {
		response, err := l.once(command)
		if err != nil || try == maxRetries || !later(response) {
			return response, err
		}
		time.Sleep(firstPause << try)
	}
}

// later reports whether a response means that the command was not begun.
func later(response []byte) bool {
	switch tpm2.TPMRC(binary.BigEndian.Uint32(response[6:headerSize])) {
	case tpm2.TPMRCRetry, tpm2.TPMRCNVRate, tpm2.TPMRCTesting, tpm2.TPMRCYielded:
		return true
	}
	return false
}

func (l *line) once(command []byte) ([]byte, error) {
	if l.file != nil {
		return exchange(l.file, command)
	}
	conn, err := net.DialTimeout(l.network, l.address, patience)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	return exchange(conn, command)
}

// exchange reads at once as much as there is: the driver forgets what is left over.
func exchange(rw io.ReadWriter, command []byte) ([]byte, error) {
	if _, err := rw.Write(command); err != nil {
		return nil, err
	}
	response := make([]byte, maxResponse)
	n, err := io.ReadAtLeast(rw, response, headerSize)
	if err != nil {
		return nil, fmt.Errorf("the TPM's answer is cut off: %w", err)
	}
	size := int(binary.BigEndian.Uint32(response[2:6]))
	if size < n || size > maxResponse {
		return nil, fmt.Errorf("the TPM's answer says that it has %d bytes; at least %d are there, and the limit is %d", uint32(size), n, maxResponse)
	}
	if _, err := io.ReadFull(rw, response[n:size]); err != nil {
		return nil, fmt.Errorf("the TPM's answer is cut off: %w", err)
	}
	return response[:size], nil
}
