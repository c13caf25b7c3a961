package wire

import (
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"coinop.dev/core/codec"
)

// An AddressType is the first byte of an address descriptor (BOLT 7).
type AddressType uint8

const (
	IPv4  AddressType = 1
	IPv6  AddressType = 2
	TorV2 AddressType = 3 // dead since 2021
	TorV3 AddressType = 4
	DNS   AddressType = 5
)

// An Address is where a node takes connections. The zero Address is none.
type Address struct {
	Type AddressType
	Host string // as on the wire: 4 or 16 bytes, an onion key of 10 or 35, a name
	Port uint16
}

var errHostName = errors.New("DNS hostname is not of letters, digits, dots and hyphens")

// size is how many bytes a host has, -1 for a name, false for an unknown type.
func (t AddressType) size() (n int, known bool) {
	switch t {
	case IPv4:
		return 4, true
	case IPv6:
		return 16, true
	case TorV2:
		return 10, true
	case TorV3:
		return 35, true
	case DNS:
		return -1, true
	}
	return 0, false
}

// readAddress takes one descriptor off the front of b; not ok if it is of an
// unknown type, whose size nobody knows.
func readAddress(b []byte) (a Address, rest []byte, ok bool, err error) {
	r := codec.NewReader(b)
	a.Type = AddressType(r.U8())
	n, known := a.Type.size()
	if !known {
		return Address{}, b, false, nil
	}
	if n < 0 {
		n = int(r.U8())
	}
	a.Host = string(r.Take(n))
	a.Port = r.U16()
	if r.Err() != nil {
		return Address{}, b, false, fmt.Errorf("address of type %d: %w", a.Type, r.Err())
	}
	return a, b[len(b)-r.Len():], true, nil
}

func (a Address) append(b []byte) []byte {
	b = append(b, byte(a.Type))
	if a.Type == DNS {
		b = append(b, byte(len(a.Host)))
	}
	b = append(b, a.Host...)
	return be.AppendUint16(b, a.Port)
}

var onionText = base32.StdEncoding.WithPadding(base32.NoPadding)

// String is the address as host:port, with nothing in it that cannot be printed.
func (a Address) String() string {
	port := strconv.Itoa(int(a.Port))
	switch a.Type {
	case IPv4, IPv6:
		if ip, ok := netip.AddrFromSlice([]byte(a.Host)); ok {
			return netip.AddrPortFrom(ip, a.Port).String()
		}
	case TorV2, TorV3:
		return strings.ToLower(onionText.EncodeToString([]byte(a.Host))) + ".onion:" + port
	case DNS:
		return printable(a.Host) + ":" + port
	}
	return fmt.Sprintf("address type %d", a.Type)
}

// ParseAddress reads host:port, where host is an IP address (IPv6 in brackets),
// a version 3 onion name or a DNS name.
func ParseAddress(text string) (Address, error) {
	if ip, err := netip.ParseAddrPort(text); err == nil && ip.Addr().Zone() == "" {
		typ := IPv6
		if ip.Addr().Is4() {
			typ = IPv4
		}
		return Address{Type: typ, Host: string(ip.Addr().AsSlice()), Port: ip.Port()}, nil
	}
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return Address{}, fmt.Errorf("address %.80q has no port; write host:port", text)
	}
	host := text[:i]
	port, err := strconv.ParseUint(text[i+1:], 10, 16)
	if err != nil {
		return Address{}, fmt.Errorf("address %.80q: the port is not a number below 65536", text)
	}
	if onion, ok := strings.CutSuffix(host, ".onion"); ok {
		key, err := onionText.DecodeString(strings.ToUpper(onion))
		if n, _ := TorV3.size(); err != nil || len(key) != n {
			return Address{}, fmt.Errorf("address %.80q is not a version 3 onion service", text)
		}
		return Address{Type: TorV3, Host: string(key), Port: uint16(port)}, nil
	}
	if !hostName(host) {
		return Address{}, fmt.Errorf("address %.80q: %w", text, errHostName)
	}
	return Address{Type: DNS, Host: host, Port: uint16(port)}, nil
}

func hostName(host string) bool {
	for _, c := range []byte(host) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-':
		default:
			return false
		}
	}
	return 0 < len(host) && len(host) <= 255
}
