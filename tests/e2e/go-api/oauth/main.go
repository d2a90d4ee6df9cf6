// Command oauth gets access tokens from the server under test as standard and official libraries do,
// and uses them: golang.org/x/oauth2's client credentials, the official Go API library with an OAuth
// client or a federated identity, and the calls of the Kubernetes operator.
//
// Settings come from the environment: BOWLINE_URL, BOWLINE_CLIENT_ID, BOWLINE_CLIENT_SECRET (absent: the
// client is a federated identity, and BOWLINE_ID_TOKEN is the token to exchange), BOWLINE_TAG (a tag of
// the client), BOWLINE_OTHER_TAG (one that is not) and BOWLINE_RECORD (a file: every response is appended
// to it as a JSON line, for the check against the OpenAPI document).
//
// The client must have the scopes auth_keys and devices:core. The last line printed is an auth key for
// devices of the tag. Every difference is printed; the exit status is 0 only when there was none.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
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
	id, secret := need("BOWLINE_CLIENT_ID"), os.Getenv("BOWLINE_CLIENT_SECRET")
	client := &tailscale.Client{
		BaseURL: base,
		HTTP:    &http.Client{Timeout: 15 * time.Second, Transport: &recorder{out: record}},
	}
	if secret == "" {
		token := need("BOWLINE_ID_TOKEN")
		client.Auth = &tailscale.IdentityFederation{
			ClientID:    id,
			IDTokenFunc: func() (string, error) { return token, nil },
		}
	} else {
		standard(ctx, base.String(), id, secret)
		client.Auth = &tailscale.OAuth{ClientID: id, ClientSecret: secret}
	}
	key := operator(ctx, client)
	if err := record.Close(); err != nil {
		fatal(err)
	}
	if failed > 0 {
		fmt.Printf("%d checks failed\n", failed)
		os.Exit(1)
	}
	fmt.Println(key)
}

// standard gets tokens in both ways of RFC 6749, whole and narrowed.
func standard(ctx context.Context, base, id, secret string) {
	config := func(style oauth2.AuthStyle, scopes ...string) clientcredentials.Config {
		return clientcredentials.Config{
			ClientID:     id,
			ClientSecret: secret,
			TokenURL:     base + "/api/v2/oauth/token",
			AuthStyle:    style,
			Scopes:       scopes,
		}
	}
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		whole := config(style)
		token, err := whole.Token(ctx)
		if err != nil {
			fatal(err)
		}
		check("kind of token", token.TokenType == "Bearer", token.TokenType)
		check("prefix", strings.HasPrefix(token.AccessToken, "tskey-api-"), "another one")
		left := time.Until(token.Expiry)
		check("lifetime", left > 59*time.Minute && left <= time.Hour, left)
		granted := strings.Fields(fmt.Sprint(token.Extra("scope")))
		check("scopes", len(granted) == 2, granted)
	}
	// Half of what the client may: the other half is refused, and only that.
	narrow := config(oauth2.AuthStyleInHeader, "devices:core:read")
	http := narrow.Client(ctx)
	check("a narrowed token lists devices", status(http.Get(base+"/api/v2/tailnet/-/devices")) == 200, "a refusal")
	made := status(http.Post(base+"/api/v2/tailnet/-/keys", "application/json",
		strings.NewReader(`{"capabilities": {"devices": {"create": {"tags": ["`+need("BOWLINE_TAG")+`"]}}}}`)))
	check("a narrowed token makes keys", made == 403, made)
	wider := config(oauth2.AuthStyleInHeader, "policy_file")
	_, err := wider.Token(ctx)
	check("a scope that the client has not", code(err) == "invalid_scope", err)
	tags := config(oauth2.AuthStyleInHeader)
	tags.EndpointParams = url.Values{"tags": {need("BOWLINE_OTHER_TAG")}}
	_, err = tags.Token(ctx)
	check("a tag that the client has not", err != nil, err)
	wrong := config(oauth2.AuthStyleInHeader)
	wrong.ClientSecret = strings.ToUpper(secret)
	_, err = wrong.Token(ctx)
	check("a wrong secret", code(err) == "invalid_client", err)
}

// operator makes the calls of the Kubernetes operator: a key for a proxy, its device looked up and
// deleted, and the key given back. The key of the answer is for a device to come.
func operator(ctx context.Context, client *tailscale.Client) string {
	request := tailscale.CreateKeyRequest{Description: "proxy"}
	request.Capabilities.Devices.Create.Preauthorized = true
	request.Capabilities.Devices.Create.Tags = []string{need("BOWLINE_TAG")}
	made, err := client.Keys().CreateAuthKey(ctx, request)
	if err != nil {
		fatal(err)
	}
	check("the key is the tailnet's", made.UserID == "", made.UserID)
	check("tags of the key", len(made.Capabilities.Devices.Create.Tags) == 1, made.Capabilities)
	spare, err := client.Keys().CreateAuthKey(ctx, request)
	if err != nil {
		fatal(err)
	}
	check("delete a key", client.Keys().Delete(ctx, spare.ID) == nil, "a refusal")
	got, err := client.Keys().Get(ctx, spare.ID)
	check("a deleted key is shown as such", err == nil && got.Invalid, err)
	_, err = client.Devices().List(ctx)
	check("list devices", err == nil, err)
	err = client.Devices().Delete(ctx, "nAbsent11CNTRL")
	check("an absent device is not found", tailscale.IsNotFound(err), err)

	request.Capabilities.Devices.Create.Tags = []string{need("BOWLINE_OTHER_TAG")}
	_, err = client.Keys().CreateAuthKey(ctx, request)
	check("a key of another tag", err != nil, "a key")
	request.Capabilities.Devices.Create.Tags = nil
	_, err = client.Keys().CreateAuthKey(ctx, request)
	check("a key without tags", err != nil, "a key")
	_, err = client.PolicyFile().Get(ctx)
	var refused tailscale.APIError
	check("the policy file is out of scope", errors.As(err, &refused) && refused.Status == 403, err)
	return made.Key
}

func status(response *http.Response, err error) int {
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// code is the error code of RFC 6749.
func code(err error) string {
	var failure *oauth2.RetrieveError
	if errors.As(err, &failure) {
		return failure.ErrorCode
	}
	return ""
}

// recorder writes down every response, for the check against the OpenAPI document.
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
		fatal(errors.New(name + " is not set"))
	}
	return value
}

func fatal(err error) {
	fmt.Println(err)
	os.Exit(1)
}
