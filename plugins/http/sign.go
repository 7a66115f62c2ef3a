package http

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash"
	"strings"
	"sync"
)

// signer makes Standard Webhooks v1 signatures with one secret. It keeps hashes
// that have absorbed the key, which is half the work for a small payload.
type signer struct {
	hashes sync.Pool
}

// newSigner parses "whsec_" + base64. A secret without the prefix is refused: it
// could be meant as base64 or as raw bytes, and a wrong guess signs wrongly.
func newSigner(secret string) (*signer, error) {
	enc, ok := strings.CutPrefix(secret, "whsec_")
	if !ok {
		return nil, errors.New(`must be "whsec_" followed by base64; encode raw bytes so`)
	}
	key, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(enc, "="))
	if err != nil {
		return nil, errors.New(`must be "whsec_" followed by standard base64`)
	}
	if len(key) < 24 || len(key) > 64 {
		return nil, errors.New("must hold 24 to 64 bytes, as Standard Webhooks asks")
	}
	s := new(signer)
	s.hashes.New = func() any { return hmac.New(sha256.New, key) }
	return s, nil
}

// append adds "v1,<base64>" of "id.timestamp.payload" to b.
func (s *signer) append(b []byte, id string, timestamp, payload []byte) []byte {
	h := s.hashes.Get().(hash.Hash)
	h.Reset()
	// b's spare capacity is the scratch space.
	n := len(b)
	b = append(b, id...)
	b = append(b, '.')
	b = append(b, timestamp...)
	b = append(b, '.')
	h.Write(b[n:])
	h.Write(payload)
	b = h.Sum(b[:n])
	s.hashes.Put(h)

	var sum [sha256.Size]byte
	copy(sum[:], b[n:])
	b = append(b[:n], "v1,"...)
	return base64.StdEncoding.AppendEncode(b, sum[:])
}
