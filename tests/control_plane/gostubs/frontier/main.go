// Asks a Frontier everything that its operators ask, with stubs made from its contract. Arguments: the address of the
// control plane, the id of the edge plant-1/robot-a, the id of the service billing. Ends with 1 at the first surprise.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"gostubs/check"
	"gostubs/pb/controlplane"
	v1 "gostubs/pb/frontierv1"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	connection := check.Dial(os.Args[1])
	defer connection.Close()
	edge, service := check.Number(os.Args[2]), check.Number(os.Args[3])

	health := check.Got(healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{}))
	check.Equal("health", health.Status, healthpb.HealthCheckResponse_SERVING)
	lists(ctx, controlplane.NewControlPlaneClient(connection), edge, service)
	calls(ctx, connection, edge, service)
	kick(ctx, connection, edge)
}

// Both peers in every list and on their own.
func lists(ctx context.Context, plane controlplane.ControlPlaneClient, edge, service uint64) {
	meta, method, topic, order := "plant", "echo", "orders", "-create_time"
	edges := check.Got(plane.ListEdges(ctx, &controlplane.ListEdgesRequest{Meta: &meta, Rpc: &method, Order: &order}))
	check.Equal("edges", edges.Count, 1)
	check.Equal("the edge listed", edges.Edges[0].EdgeId, edge)
	past := check.Got(plane.ListEdges(ctx, &controlplane.ListEdgesRequest{Page: 2, PageSize: 1}))
	check.Equal("the second page", len(past.Edges), 0)
	check.Equal("edges before paging", past.Count, 1)
	one := check.Got(plane.GetEdge(ctx, &controlplane.GetEdgeRequest{EdgeId: edge}))
	check.Equal("meta", one.Meta, "plant-1/robot-a")
	methods := check.Got(plane.ListEdgeRPCs(ctx, &controlplane.ListEdgeRPCsRequest{EdgeId: &edge}))
	check.Equal("method of the edge", methods.Rpcs[0], "echo")

	services := check.Got(plane.ListServices(ctx, &controlplane.ListServicesRequest{Topic: &topic}))
	check.Equal("the service listed", services.Services[0].ServiceId, service)
	alone := check.Got(plane.GetService(ctx, &controlplane.GetServiceRequest{ServiceId: service}))
	check.Equal("name", alone.Service, "billing")
	offered := check.Got(plane.ListServiceRPCs(ctx, &controlplane.ListServiceRPCsRequest{}))
	check.Equal("method of the service", offered.Rpcs[0], "echo")
	topics := check.Got(plane.ListServiceTopics(ctx, &controlplane.ListServiceTopicsRequest{}))
	check.Equal("topic", topics.Topics[0], "orders")

	_, err := plane.KickService(ctx, &controlplane.KickServiceRequest{ServiceId: 5})
	check.Refused(err, codes.NotFound, "service not online")
}

// Calls and messages to both peers, what is known of them, and the server itself.
func calls(ctx context.Context, connection *grpc.ClientConn, edge, service uint64) {
	through := v1.NewThroughClient(connection)
	answer := check.Got(through.CallEdge(ctx, &v1.CallEdgeRequest{EdgeId: edge, Method: "echo", Data: []byte("hi")}))
	check.Equal("answer of the edge", string(answer.Data), "hi")
	large := make([]byte, 300_000)
	answer = check.Got(
		through.CallService(ctx, &v1.CallServiceRequest{ServiceId: service, Method: "echo", Data: large}))
	check.Equal("bytes of a large answer", len(answer.Data), len(large))
	_, err := through.CallEdge(ctx, &v1.CallEdgeRequest{EdgeId: 5, Method: "echo"})
	check.Refused(err, codes.NotFound, "edge not online")
	_, err = through.CallEdge(ctx, &v1.CallEdgeRequest{EdgeId: edge, Method: "none"})
	check.Refused(err, codes.NotFound, "no such rpc: none")
	_, err = through.CallEdge(ctx, &v1.CallEdgeRequest{EdgeId: edge, Method: "echo", Data: []byte("no")})
	check.Refused(err, codes.FailedPrecondition, "not today")
	check.Got(through.PublishToEdge(ctx, &v1.PublishToEdgeRequest{EdgeId: edge, Topic: "news", Data: []byte("hi")}))
	check.Got(through.PublishToTopic(ctx, &v1.PublishToTopicRequest{Topic: "orders", Data: []byte("hi")}))

	details := check.Got(
		v1.NewPeersClient(connection).GetEdgeDetails(ctx, &v1.GetEdgeDetailsRequest{EdgeId: edge}))
	check.Equal("protocol", details.Protocol, "tcp")
	server := v1.NewServerClient(connection)
	about := check.Got(server.GetServer(ctx, &v1.GetServerRequest{}))
	check.Equal("edges that are online", about.Edges, 1)
	config := check.Got(server.GetConfig(ctx, &v1.GetConfigRequest{}))
	enabled := config.Fields["controlplane"].GetStructValue().Fields["enable"].GetBoolValue()
	check.Equal("controlplane.enable", enabled, true)
}

// Kicks the edge while a watcher looks on.
func kick(ctx context.Context, connection *grpc.ClientConn, edge uint64) {
	watching, stop := context.WithCancel(ctx)
	events := check.Got(v1.NewEventsClient(connection).Watch(watching, &v1.WatchRequest{Snapshot: true}))
	for _, kind := range []string{"edge_online", "service_online", "snapshot_end"} {
		check.Equal("event", check.Got(events.Recv()).Kind, kind)
	}
	plane := controlplane.NewControlPlaneClient(connection)
	check.Got(plane.KickEdge(ctx, &controlplane.KickEdgeRequest{EdgeId: edge}))
	_, err := plane.GetEdge(ctx, &controlplane.GetEdgeRequest{EdgeId: edge})
	check.Refused(err, codes.NotFound, "not found")
	for {
		event := check.Got(events.Recv())
		if event.Kind == "edge_offline" {
			check.Equal("who is offline", event.GetEdgeId(), edge)
			break
		}
	}
	stop()
	_, err = events.Recv()
	for err == nil {
		_, err = events.Recv()
	}
	if errors.Is(err, io.EOF) {
		check.Fail("a stream that the client has cancelled ends as if the server had")
	}
	check.Refused(err, codes.Canceled, "context canceled")
}
