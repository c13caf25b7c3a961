//go:build !omit_bitcoin || !omit_gateway

package main

import (
	"strings"

	"rsc.io/qr"
)

// quiet is the border that a QR code needs, in modules (ISO/IEC 18004).
const quiet = 4

// qrCode draws text for a terminal, two modules to a character, black on white
// whatever the terminal's colours are. What is too long for a QR code has none.
func qrCode(text string) string {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return ""
	}
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		b.WriteString("\x1b[30;107m")
		for x := -quiet; x < code.Size+quiet; x++ {
			switch upper, lower := code.Black(x, y), code.Black(x, y+1); {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String()
}
