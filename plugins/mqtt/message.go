package mqtt

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	v5 "github.com/eclipse/paho.golang/packets"
	v3 "github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// publication is a message as it is sent, but for the packet's identifier.
type publication struct {
	*broker
	topic      string
	properties *v5.Properties // nil with 3.1.1
	payload    []byte
}

// publication makes the message. The error says why m can't be sent at all.
func (b *broker) publication(m *transport.Message, now time.Time) (*publication, error) {
	p := &publication{broker: b, topic: b.topic, payload: m.Payload}
	if m.Key != "" {
		p.topic = m.Key
	}
	if path := strings.TrimLeft(m.Path, "/"); path != "" {
		p.topic = strings.TrimSuffix(p.topic, "/") + "/" + path
	}
	if err := checkTopic(p.topic); err != nil {
		return nil, fmt.Errorf("the message's topic %w", err)
	}
	if len(m.Payload) > b.maxPayload {
		return nil, fmt.Errorf("the message has %d bytes; max_payload is %d", len(m.Payload), b.maxPayload)
	}
	if err := target.HeaderCount(m); err != nil {
		return nil, err
	}
	p.properties = &v5.Properties{ContentType: m.ContentType}
	for _, h := range [...]struct{ name, value string }{
		{"webhook-id", m.ID},
		{"webhook-timestamp", strconv.FormatInt(now.Unix(), 10)},
		{"hookline-event-id", m.EventID},
		{"hookline-attempt", strconv.Itoa(m.Attempt)},
		{"hookline-kind", m.Kind},
		{"traceparent", m.TraceParent},
	} {
		if h.value != "" {
			p.properties.User = append(p.properties.User, v5.User{Key: h.name, Value: h.value})
		}
	}
	ours := len(p.properties.User)
	for name, value := range m.Headers {
		lower := strings.ToLower(name)
		switch {
		case name == "":
			return nil, errors.New("the transform set a header without a name")
		case transport.OwnHeader(lower):
			return nil, fmt.Errorf("the transform set header %s, which Hookline itself sets; remove it from the script", target.OneLine(name))
		case lower == "content-type":
			p.properties.ContentType = value
		case !b.v5:
			return nil, fmt.Errorf(`the transform set header %s, which MQTT 3.1.1 has no place for; set version to "5" or remove it from the script`, target.OneLine(name))
		default:
			p.properties.User = append(p.properties.User, v5.User{Key: name, Value: value})
		}
	}
	if p.properties.ContentType == "" {
		p.properties.ContentType = "application/json"
	}
	slices.SortFunc(p.properties.User[ours:], func(a, b v5.User) int { return strings.Compare(a.Key, b.Key) })
	return p, p.check()
}

// check holds the properties against MQTT's limits: what is too long, the packages
// would cut, and for characters that it does not like a broker ends the connection.
func (p *publication) check() error {
	if !p.v5 {
		p.properties = nil
	}
	size := 16 + len(p.topic) + len(p.payload)
	if p.properties != nil {
		if ct := p.properties.ContentType; len(ct) > maxText || !text(ct) {
			return errors.New("the message's content type is too long or not text without control characters")
		}
		size += len(p.properties.ContentType)
		for _, u := range p.properties.User {
			if len(u.Key) > maxText || len(u.Value) > maxText || !text(u.Key) || !text(u.Value) {
				return fmt.Errorf("header %.100s, or its value, is longer than %d bytes or not text without control characters", strings.ToValidUTF8(u.Key, "?"), maxText)
			}
			size += 8 + len(u.Key) + len(u.Value)
		}
	}
	if size > maxPacket {
		return fmt.Errorf("the message has %d bytes with its properties; MQTT allows %d", size, maxPacket)
	}
	return nil
}

// checkTopic tells what keeps a topic from being published to.
func checkTopic(topic string) error {
	switch {
	case len(topic) > maxText:
		return fmt.Errorf("must be at most %d bytes", maxText)
	case !text(topic):
		return errors.New("must be text without control characters")
	case strings.ContainsAny(topic, "+#"):
		return errors.New("must not have the wildcards + and #")
	}
	return nil
}

// packet is the PUBLISH.
func (p *publication) packet(id uint16) []byte {
	var b bytes.Buffer
	b.Grow(len(p.payload) + len(p.topic) + 512)
	if p.v5 {
		out := v5.Publish{PacketID: id, Topic: p.topic, QoS: p.qos, Retain: p.retain, Properties: p.properties, Payload: p.payload}
		_, _ = out.WriteTo(&b) // a buffer takes everything
		return b.Bytes()
	}
	out := v3.NewControlPacket(v3.Publish).(*v3.PublishPacket)
	out.MessageID, out.TopicName, out.Qos, out.Retain, out.Payload = id, p.topic, p.qos, p.retain, p.payload
	_ = out.Write(&b) // a buffer takes everything
	return b.Bytes()
}
