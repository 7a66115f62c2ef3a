package mqtt

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	v5 "github.com/eclipse/paho.golang/packets"
	v3 "github.com/eclipse/paho.mqtt.golang/packets"
)

// maxIncoming is the longest packet that we take, in bytes. Nobody publishes to us,
// and acknowledgements are short.
const maxIncoming = 16 << 10

// errProtocol is an answer that is not MQTT, or out of place.
type errProtocol string

func (e errProtocol) Error() string { return string(e) }

// refusal is a reason code by which the broker refuses the login, or says why it ends
// the connection.
type refusal struct {
	code   byte // of MQTT 5
	status int  // as the broker wrote it
}

func (r *refusal) Error() string { return fmt.Sprintf("the broker refused with code 0x%02x", r.code) }

// The packets that are the same in all versions.
var (
	pingreq    = []byte{v5.PINGREQ << 4, 0}
	disconnect = []byte{v5.DISCONNECT << 4, 0}
)

func pubrel(id uint16) []byte { return []byte{v5.PUBREL<<4 | 2, 2, byte(id >> 8), byte(id)} }

// connectPacket is the CONNECT: always clean, so that what was in flight when an
// earlier connection ended is over on both sides.
func (b *broker) connectPacket(clientID string) []byte {
	var buf bytes.Buffer
	keepalive := uint16(b.keepalive / time.Second)
	if b.v5 {
		quiet, limit := byte(0), uint32(maxIncoming)
		out := v5.Connect{
			ProtocolName: "MQTT", ProtocolVersion: 5, CleanStart: true, KeepAlive: keepalive, ClientID: clientID,
			Properties: &v5.Properties{RequestProblemInfo: &quiet, MaximumPacketSize: &limit},
		}
		if b.username != nil {
			out.UsernameFlag, out.Username = true, *b.username
		}
		if b.password != nil {
			out.PasswordFlag, out.Password = true, []byte(*b.password)
		}
		_, _ = out.WriteTo(&buf) // a buffer takes everything
		return buf.Bytes()
	}
	out := v3.NewControlPacket(v3.Connect).(*v3.ConnectPacket)
	out.ProtocolName, out.ProtocolVersion, out.CleanSession, out.Keepalive, out.ClientIdentifier = "MQTT", 4, true, keepalive, clientID
	if b.username != nil {
		out.UsernameFlag, out.Username = true, *b.username
	}
	if b.password != nil {
		out.PasswordFlag, out.Password = true, []byte(*b.password)
	}
	_ = out.Write(&buf) // a buffer takes everything
	return buf.Bytes()
}

// readPacket reads one packet: its type and what follows the fixed header.
func readPacket(r *bufio.Reader) (kind byte, body []byte, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	length := 0
	for shift := 0; ; shift += 7 {
		c, err := r.ReadByte()
		if err != nil {
			return 0, nil, cutShort(err)
		}
		length |= int(c&0x7f) << shift
		if length > maxIncoming || shift > 21 {
			return 0, nil, errProtocol("a packet that is too long, or not MQTT")
		}
		if c < 0x80 {
			break
		}
	}
	body = make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, cutShort(err)
	}
	return first >> 4, body, nil
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// limits are what the broker said it takes, when we logged in.
type limits struct {
	packet    uint32 // in bytes
	inFlight  int
	qos       byte
	retain    bool
	keepalive time.Duration // 0: as we said
}

// readConnack reads the answer to CONNECT. A refusal is a *refusal.
func (b *broker) readConnack(r *bufio.Reader) (limits, error) {
	lim := limits{packet: math.MaxUint32, inFlight: b.inFlight, qos: 2, retain: true}
	const not = errProtocol("an answer that is not MQTT's CONNACK")
	first, err := r.Peek(1)
	if err != nil {
		return lim, err
	}
	if first[0] != v5.CONNACK<<4 { // its length is anything
		return lim, not
	}
	_, body, err := readPacket(r)
	if err != nil {
		return lim, err
	}
	if len(body) < 2 {
		return lim, not
	}
	if code := body[1]; code != 0 {
		// A broker that has only 3.1.1 answers in it.
		return lim, &refusal{code: fromV3(code), status: int(code)}
	}
	if !b.v5 {
		return lim, nil
	}
	ack := v5.Connack{Properties: &v5.Properties{}}
	if err := ack.Unpack(bytes.NewBuffer(body)); err != nil {
		return lim, errProtocol("a CONNACK that is malformed")
	}
	p := ack.Properties
	if p.MaximumPacketSize != nil {
		lim.packet = *p.MaximumPacketSize
	}
	if p.ReceiveMaximum != nil {
		if *p.ReceiveMaximum == 0 {
			return lim, errProtocol("a CONNACK that is malformed")
		}
		lim.inFlight = min(lim.inFlight, int(*p.ReceiveMaximum))
	}
	if p.MaximumQOS != nil {
		lim.qos = *p.MaximumQOS
	}
	if p.RetainAvailable != nil {
		lim.retain = *p.RetainAvailable == 1
	}
	if p.ServerKeepAlive != nil && *p.ServerKeepAlive > 0 {
		lim.keepalive = time.Duration(*p.ServerKeepAlive) * time.Second
	}
	return lim, nil
}

// fromV3 is a return code of 3.1.1 as the reason code of 5 that means the same.
func fromV3(code byte) byte {
	switch code {
	case v3.ErrRefusedBadProtocolVersion:
		return v5.ConnackUnsupportedProtocolVersion
	case v3.ErrRefusedIDRejected:
		return v5.ConnackInvalidClientID
	case v3.ErrRefusedServerUnavailable:
		return v5.ConnackServerUnavailable
	case v3.ErrRefusedBadUsernameOrPassword:
		return v5.ConnackBadUsernameOrPassword
	case v3.ErrRefusedNotAuthorised:
		return v5.ConnackNotAuthorized
	}
	return code
}

// acknowledgement reads a PUBACK, PUBREC or PUBCOMP. Properties are left unread.
func acknowledgement(body []byte) (id uint16, code byte, err error) {
	if len(body) < 2 {
		return 0, 0, errProtocol("an acknowledgement that is malformed")
	}
	if len(body) > 2 {
		code = body[2]
	}
	return binary.BigEndian.Uint16(body), code, nil
}
