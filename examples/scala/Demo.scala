package com.github.sstone.amqp.proxy

import com.rabbitmq.client.ConnectionFactory

/** What caller and worker share. */
object Demo {
  case class AddRequest(x: Int, y: Int)
  case class AddResponse(x: Int, y: Int, sum: Int)
  case class DivideRequest(x: Int, y: Int)
  case class DivideResponse(quotient: Double)

  def connectionFactory(args: Array[String]): ConnectionFactory = {
    val factory = new ConnectionFactory()
    factory.setUri(args.headOption.orElse(sys.env.get("AMQPROXY_URL")).getOrElse("amqp://guest:guest@localhost/"))
    // A URL that ends with a slash names the virtual host "" to this client, and / to most others.
    if (factory.getVirtualHost.isEmpty) factory.setVirtualHost("/")
    factory
  }
}
