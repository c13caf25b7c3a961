package console

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// qrCode is a QR code to draw as SVG: a path in a square of Size modules, with the
// quiet zone that readers need.
type qrCode struct {
	Size int
	Path string
}

// maxQR is how many bytes still make a code that a phone reads from a screen.
const maxQR = 1200

// drawQR draws text, or nothing if it is too long.
func drawQR(text string) qrCode {
	const quiet = 4
	if len(text) > maxQR {
		return qrCode{}
	}
	code, err := qr.Encode(dense(text), qr.M)
	if err != nil {
		return qrCode{}
	}
	var path strings.Builder
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			from := x
			for x < code.Size && code.Black(x, y) {
				x++
			}
			if x > from {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", from+quiet, y+quiet, x-from, x-from)
			}
		}
	}
	return qrCode{code.Size + 2*quiet, path.String()}
}

// alphanumeric are the letters of the QR mode of 5.5 bits for each.
const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"

// dense writes an invoice, or a bech32 address alone, in capitals: it means the
// same (BOLT 11, BIP 173), and needs a third less of a code.
func dense(text string) string {
	lower := strings.ToLower(text)
	if !strings.HasPrefix(lower, "lightning:") && !strings.HasPrefix(lower, "bitcoin:bc1") && !strings.HasPrefix(lower, "bitcoin:tb1") && !strings.HasPrefix(lower, "bitcoin:bcrt1") {
		return text
	}
	upper := strings.ToUpper(text)
	for _, c := range upper {
		if !strings.ContainsRune(alphanumeric, c) {
			return text
		}
	}
	return upper
}
