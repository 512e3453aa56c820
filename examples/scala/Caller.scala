package com.github.sstone.amqp.proxy

import java.util.concurrent.TimeUnit

import akka.actor.{ActorRef, ActorSystem, Props}
import akka.pattern.ask
import akka.util.Timeout
import com.github.sstone.amqp.proxy.calculator.{Calculator => protobuf}
import com.github.sstone.amqp.proxy.{calculator => thrift}
import com.github.sstone.amqp.{Amqp, ConnectionOwner, RpcClient}

import scala.concurrent.duration._
import scala.concurrent.{Await, Future}
import scala.util.control.NonFatal

object Caller extends App {
  implicit val timeout: Timeout = 10.seconds
  val system = ActorSystem("caller")
  import system.dispatcher

  val service = args.lift(1).getOrElse("calculator")
  val encoding = args.lift(2).getOrElse("json")
  val connection = system.actorOf(ConnectionOwner.props(Demo.connectionFactory(args)), "connection")
  val rpc = ConnectionOwner.createChildActor(connection, RpcClient.props())
  val proxy = system.actorOf(Props(new AmqpProxy.Client(rpc, "amq.direct", service, encoding)), "proxy")

  val ended =
    try {
      if (!Amqp.waitForConnection(system, rpc).await(10, TimeUnit.SECONDS)) sys.error("the broker does not answer")
      println(s"1 + 2 = ${Await.result(add(proxy, 1, 2), timeout.duration)}")
      val failure = divide(proxy, 1, 0).failed.map { case error: AmqpProxyException => error.getMessage }
      println(s"1 / 0: ${Await.result(failure, timeout.duration)}")
      0
    } catch {
      case NonFatal(error) =>
        Console.err.println(s"no answer: ${error.getMessage}")
        1
    }
  system.shutdown()
  system.awaitTermination(10.seconds)
  sys.exit(ended)

  def add(proxy: ActorRef, x: Int, y: Int): Future[Int] = encoding.stripPrefix("snappy-") match {
    case "protobuf" =>
      (proxy ? protobuf.AddRequest.newBuilder.setX(x).setY(y).build()).mapTo[protobuf.AddResponse].map(_.getSum)
    case "thrift" => (proxy ? new thrift.AddRequest(x, y)).mapTo[thrift.AddResponse].map(_.sum)
    case _ => (proxy ? Demo.AddRequest(x, y)).mapTo[Demo.AddResponse].map(_.sum)
  }

  def divide(proxy: ActorRef, x: Int, y: Int): Future[Double] = encoding.stripPrefix("snappy-") match {
    case "protobuf" =>
      val request = protobuf.DivideRequest.newBuilder.setX(x).setY(y).build()
      (proxy ? request).mapTo[protobuf.DivideResponse].map(_.getQuotient)
    case "thrift" => (proxy ? new thrift.DivideRequest(x, y)).mapTo[thrift.DivideResponse].map(_.quotient)
    case _ => (proxy ? Demo.DivideRequest(x, y)).mapTo[Demo.DivideResponse].map(_.quotient)
  }
}
