package mllp

// Dialled is the number of connections that were made.
func (t *Transport) Dialled() int { return int(t.dialled.Load()) }

// Open is the number of connections that are open.
func (t *Transport) Open() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		select {
		case <-c.gone:
		default:
			n++
		}
	}
	return n
}

// Message is what is sent for a payload, in its frame.
func (t *Transport) Message(payload []byte) ([]byte, error) {
	m, err := t.link.message(payload)
	if err != nil {
		return nil, err
	}
	return m.frame, nil
}

// Ack is what an answer to the control id means.
func Ack(raw []byte, controlID string) (code string, errors []string, err error) {
	a, err := parseAck(raw, controlID)
	if err != nil {
		return "", nil, err
	}
	return a.code, a.errors, nil
}

// Defaults are the settings that apply where none is written.
var Defaults = defaults
