package mllp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// message is a payload made ready to be sent.
type message struct {
	frame     []byte
	controlID string // MSH-10, as it is sent
	// wantsApplication: MSH-16 asks for the application's word beside or after the
	// accept acknowledgement.
	wantsApplication bool
}

// message makes a frame of a payload. The error says which rule of HL7 or MLLP the
// payload breaks, and holds nothing of it.
func (l *link) message(payload []byte) (*message, error) {
	text := payload
	if !utf8.Valid(text) {
		return nil, errors.New("the payload is not UTF-8, from which it would be written in " + l.charset)
	}
	if l.convert {
		text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\r"))
		text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r"))
	} else if bytes.IndexByte(text, '\n') >= 0 {
		return nil, errors.New("the payload has a line feed; segments end with CR (see convert_line_ends)")
	}
	if bytes.IndexByte(text, startBlock) >= 0 || bytes.IndexByte(text, endBlock) >= 0 {
		return nil, errors.New("the payload has a control character of MLLP (VT or FS)")
	}
	header, _, _ := bytes.Cut(text, []byte("\r"))
	msh, err := parseHeader(header)
	if err != nil {
		return nil, err
	}
	out := &message{controlID: msh.field(10)}
	if out.controlID == "" {
		return nil, errors.New("MSH-10 (message control id) is empty, by which its acknowledgement is known")
	}
	if set := l.characterSet; set != "" && !l.declared(msh, text) {
		return nil, fmt.Errorf("MSH-18 (character set) is not %s, in which it would be sent; set charset or MSH-18", set)
	}
	accept, application := msh.field(15), msh.field(16)
	out.wantsApplication = application == "AL" || application == "SU"
	if enhanced := accept != "" || application != ""; enhanced && accept != "AL" && accept != "SU" && !out.wantsApplication {
		return nil, errors.New("MSH-15 and MSH-16 ask for no acknowledgement of success, without which nothing is delivered; write AL into one of them, or leave both empty")
	}
	if l.encoder != nil {
		// A new encoder each time: they have a state.
		encoded, err := l.encoder.NewEncoder().Bytes(text)
		if err != nil {
			return nil, errors.New("the payload has a character that " + l.charset + " does not have")
		}
		text = encoded
		id, err := l.encoder.NewEncoder().String(out.controlID)
		if err != nil {
			return nil, errors.New("MSH-10 has a character that " + l.charset + " does not have")
		}
		out.controlID = id
	} else if l.charset == charsetASCII && !isASCII(text) {
		return nil, errors.New("the payload has a character that " + l.charset + " does not have")
	}
	out.frame = make([]byte, 0, len(text)+4)
	out.frame = append(out.frame, startBlock)
	out.frame = append(out.frame, text...)
	if text[len(text)-1] != '\r' { // the last segment ends as the others do
		out.frame = append(out.frame, '\r')
	}
	out.frame = append(out.frame, endBlock, endData)
	return out, nil
}

// header is a segment MSH.
type header struct {
	fields     []string // MSH-2 is fields[1]
	component  string
	repetition string
}

// parseHeader reads the segment that begins a message, and the characters that
// separate (chapter 2, MSH-1 and MSH-2).
func parseHeader(segment []byte) (*header, error) {
	if !bytes.HasPrefix(segment, []byte("MSH")) || len(segment) < 8 {
		return nil, errors.New("the payload is not an HL7 v2 message: it does not begin with a segment MSH")
	}
	sep := segment[3]
	if sep < ' ' || sep >= 0x7f || isAlnum(sep) {
		return nil, errors.New("MSH-1 (field separator) is not a separator")
	}
	h := &header{fields: strings.Split(string(segment), string(rune(sep)))}
	if len(h.fields) < 2 || len(h.fields[1]) < 2 {
		return nil, errors.New("MSH-2 (encoding characters) is too short")
	}
	h.component, h.repetition = h.fields[1][:1], h.fields[1][1:2]
	return h, nil
}

func isAlnum(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
}

// field gives MSH-n; MSH-1 is the separator itself.
func (h *header) field(n int) string {
	if n-1 >= len(h.fields) {
		return ""
	}
	if s := h.fields[n-1]; s != `""` { // HL7's null
		return s
	}
	return ""
}

// declared tells whether MSH-18, of which the first repetition counts, says nothing
// else than the character set in use. ASCII is part of all of them.
func (l *link) declared(msh *header, text []byte) bool {
	set, _, _ := strings.Cut(msh.field(18), msh.repetition)
	return set == "" || strings.EqualFold(set, l.characterSet) || strings.EqualFold(set, charsets[charsetASCII].hl7) && isASCII(text)
}

func isASCII(text []byte) bool {
	return !bytes.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf })
}
