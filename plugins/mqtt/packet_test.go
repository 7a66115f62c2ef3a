package mqtt

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
)

// Whatever a broker answers to a login is a login, a refusal, or an error that has a
// name; and it costs no more memory than it is long.
func FuzzConnack(f *testing.F) {
	for _, b := range [][]byte{
		{0x20, 3, 0, 0, 0}, {0x20, 2, 0, 5}, {0x20, 3, 0, 0x87, 0},
		{0x20, 15, 0, 0, 12, 0x24, 1, 0x25, 0, 0x21, 0, 1, 0x27, 0, 0, 1, 0},
		{0x20, 6, 0, 0, 3, 0x21, 0, 0}, {0x20, 0xff, 0xff, 0xff, 0x7f}, {0x20, 8, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f},
		[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
	} {
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, in []byte, v5 bool) {
		b := &broker{v5: v5, inFlight: 20}
		lim, err := b.readConnack(bufio.NewReader(bytes.NewReader(in)))
		_, refused := errors.AsType[*refusal](err)
		_, broken := errors.AsType[errProtocol](err)
		switch {
		case err == nil:
			if lim.inFlight < 1 || lim.inFlight > 20 {
				t.Errorf("%+v", lim)
			}
		case !refused && !broken && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			t.Errorf("%v", err)
		}
	})
}
