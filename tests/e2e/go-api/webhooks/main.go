// Command webhooks uses every method of the official Go API library for webhook endpoints.
//
// Settings come from the environment: BOWLINE_URL, BOWLINE_TOKEN (an API access token), BOWLINE_RECEIVER
// (the URL of an endpoint) and BOWLINE_RECORD (a file: every response is appended to it as a JSON line,
// for the check against the OpenAPI document).
//
// It leaves one endpoint, which is told of devices, and was given another secret. The last line printed is
// its id and its two secrets, the newer one first. Every difference is printed; the exit status is 0 only
// when there was none.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"tailscale.com/client/tailscale/v2"
)

var failed int

func check(what string, holds bool, got any) {
	if !holds {
		failed++
		fmt.Printf("%s: got %v\n", what, got)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	record, err := os.OpenFile(need("BOWLINE_RECORD"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fatal(err)
	}
	base, err := url.Parse(need("BOWLINE_URL"))
	if err != nil {
		fatal(err)
	}
	client := &tailscale.Client{
		BaseURL: base,
		APIKey:  need("BOWLINE_TOKEN"),
		HTTP:    &http.Client{Timeout: 15 * time.Second, Transport: &recorder{out: record}},
	}
	line := webhooks(ctx, client.Webhooks(), need("BOWLINE_RECEIVER"))
	if err := record.Close(); err != nil {
		fatal(err)
	}
	if failed > 0 {
		fmt.Printf("%d checks failed\n", failed)
		os.Exit(1)
	}
	fmt.Println(line)
}

func webhooks(ctx context.Context, hooks *tailscale.WebhooksResource, receiver string) string {
	wanted := []tailscale.WebhookSubscriptionType{tailscale.WebhookPolicyUpdate}
	made, err := hooks.Create(ctx, tailscale.CreateWebhookRequest{EndpointURL: receiver, Subscriptions: wanted})
	if err != nil {
		fatal(err)
	}
	check("secret", made.Secret != nil && strings.HasPrefix(*made.Secret, "tskey-webhook-"), "none")
	check("URL", made.EndpointURL == receiver, made.EndpointURL)

	wanted = []tailscale.WebhookSubscriptionType{tailscale.WebhookNodeCreated, tailscale.WebhookNodeDeleted}
	changed, err := hooks.Update(ctx, made.EndpointID, wanted)
	if err != nil {
		fatal(err)
	}
	check("changed subscriptions", slices.Equal(changed.Subscriptions, wanted), changed.Subscriptions)
	shown, err := hooks.Get(ctx, made.EndpointID)
	if err != nil {
		fatal(err)
	}
	check("shown subscriptions", slices.Equal(shown.Subscriptions, wanted), shown.Subscriptions)
	check("a secret that is shown again", shown.Secret == nil, "one")

	rotated, err := hooks.RotateSecret(ctx, made.EndpointID)
	if err != nil {
		fatal(err)
	}
	check("another secret", rotated.Secret != nil && *rotated.Secret != *made.Secret, "the same")
	if err := hooks.Test(ctx, made.EndpointID); err != nil {
		fatal(err)
	}

	other, err := hooks.Create(ctx, tailscale.CreateWebhookRequest{
		EndpointURL:   receiver + "other",
		ProviderType:  tailscale.WebhookSlackProviderType,
		Subscriptions: wanted,
	})
	if err != nil {
		fatal(err)
	}
	check("provider", other.ProviderType == tailscale.WebhookSlackProviderType, other.ProviderType)
	all, err := hooks.List(ctx)
	if err != nil {
		fatal(err)
	}
	check("listed", len(all) == 2, len(all))
	if err := hooks.Delete(ctx, other.EndpointID); err != nil {
		fatal(err)
	}
	_, err = hooks.Get(ctx, other.EndpointID)
	check("a deleted one", tailscale.IsNotFound(err), err)
	_, err = hooks.Create(ctx, tailscale.CreateWebhookRequest{EndpointURL: receiver})
	check("no subscriptions", err != nil, "an endpoint")
	return strings.Join([]string{made.EndpointID, *rotated.Secret, *made.Secret}, " ")
}

// recorder writes down every response.
type recorder struct{ out io.Writer }

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, json.NewEncoder(r.out).Encode(map[string]any{
		"method": request.Method,
		"url":    request.URL.String(),
		"status": response.StatusCode,
		"type":   response.Header.Get("Content-Type"),
		"body":   base64.StdEncoding.EncodeToString(body),
	})
}

func need(name string) string {
	value := os.Getenv(name)
	if value == "" {
		fatal(name + " is not set")
	}
	return value
}

func fatal(reason any) {
	fmt.Println(reason)
	os.Exit(1)
}
