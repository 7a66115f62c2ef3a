package http_test

import (
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/hookline/hookline/plugins/http"
	"github.com/hookline/hookline/plugins/transport"
)

// The vector of the Standard Webhooks libraries.
func TestSignatureVector(t *testing.T) {
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	got, err := http.Sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if err != nil || got != want {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
}

func TestSignaturesVerify(t *testing.T) {
	s, got := recorder(t)
	secrets := []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMw=="}
	for name, setting := range map[string]any{"one": secrets[0], "list": secrets} {
		t.Run(name, func(t *testing.T) {
			tr := configured(t, obj{"url": s.URL, "signing_secrets": setting})
			n := strings.Count(name, "list") + 1
			for range 3 {
				for _, size := range []int{0, 20, 100 << 10} {
					m := message()
					m.Payload = []byte(strings.Repeat("p", size))
					want(t, deliver(t, tr, m), transport.Done, transport.Delivered, 200)
					r := <-got
					if c := len(strings.Fields(r.Header.Get("Webhook-Signature"))); c != n {
						t.Errorf("%d signatures, want %d", c, n)
					}
					for _, secret := range secrets[:n] {
						wh, err := standardwebhooks.NewWebhook(secret)
						if err != nil {
							t.Fatal(err)
						}
						if err := wh.Verify(r.body, r.Header); err != nil {
							t.Error(err)
						}
						if err := wh.Verify(append(r.body, '!'), r.Header); err == nil {
							t.Error("another body verifies")
						}
					}
				}
			}
			m := message()
			m.ID = ""
			want(t, deliver(t, tr, m), transport.None, transport.RejectedByTarget, 0)
		})
	}
}
